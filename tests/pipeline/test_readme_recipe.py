"""The recipe that README shows is one."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from mldr_deploy.pipeline.recipe import load_recipe

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_recipe_of_the_readme_loads(tmp_path: Path) -> None:
    block = re.search(
        r'^ {4}name = "mine"\n(?: {4}.*\n|\n)+', README.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert block is not None
    file = tmp_path / "mine.toml"
    file.write_text(textwrap.dedent(block[0]), encoding="utf-8")
    recipe = load_recipe(str(file))
    assert (recipe.name, recipe.method.name, recipe.train.epochs) == ("mine", "mldr-kd", 30)
    assert recipe.teacher is not None and recipe.teacher.fresh_head
