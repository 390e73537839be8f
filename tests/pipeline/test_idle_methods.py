"""Keys of methods that a recipe does not use decide nothing: a new method spoils no old run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mldr_deploy.errors import MldrError
from mldr_deploy.pipeline.recipe import dump_recipe, is_idle, load_recipe
from mldr_deploy.pipeline.workspace import Workspace


def test_idle_is_what_belongs_to_another_method() -> None:
    recipe = load_recipe("digits", ["method.name=kd"])
    assert is_idle(recipe, "method.mldr_kd.alpha")
    assert is_idle(recipe, "method.some_method_of_old.key")
    assert not is_idle(recipe, "method.name")
    assert not is_idle(recipe, "method.kd.temperature")
    assert not is_idle(recipe, "train.epochs")


def test_a_run_goes_on_though_another_methods_keys_have_changed(tmp_path: Path) -> None:
    before = load_recipe("digits", ["method.dkd.beta=2"])
    (tmp_path / "student").mkdir()
    (tmp_path / "recipe.toml").write_text(dump_recipe(before))
    Workspace(tmp_path, load_recipe("digits", ["method.dkd.beta=3"])).claim(restart=False)
    changed = load_recipe("digits", ["method.mldr_kd.alpha=3"])
    with pytest.raises(MldrError, match=r"holds a run with method\.mldr_kd\.alpha = 2\.0, not 3"):
        Workspace(tmp_path, changed).claim(restart=False)
