"""The short forms of keys: what recipe they make, next to the long way."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mldr_deploy.cli.group import main
from mldr_deploy.pipeline import phases
from mldr_deploy.pipeline.recipe import load_recipe


class Seen(Exception):
    """The recipe has been read; nothing is to be done."""


def recipe_of(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `distill-and-export` would carry out."""
    seen: list[Any] = []

    @contextmanager
    def pipeline(recipe: Any, *_: Any, **__: Any) -> Any:
        seen.append(recipe)
        raise Seen
        yield

    monkeypatch.setattr(phases, "pipeline", pipeline)
    result = CliRunner().invoke(main, ["distill-and-export", "--quiet", *arguments])
    assert isinstance(result.exception, Seen), result.output
    return seen[0]


@pytest.mark.parametrize(
    ("short", "recipe", "keys"),
    [
        ((), "digits", ()),
        (("--epochs", "3"), "digits", ("train.epochs=3",)),
        (
            ("--teacher", "resnet18", "--student", "test_vit", "--image-size", "48"),
            "digits",
            ("teacher.name=resnet18", "student.name=test_vit", "data.image_size=48"),
        ),
        (("--data", "cifar100"), "digits", ("data.source=cifar100",)),
        (("--data", "folder:no/such"), "photos", ("data.source=folder:no/such",)),
        (("--data", "HERE"), "photos", ("data.source=folder:HERE",)),
        (("--data", "HERE/a.parquet"), "photos", ("data.source=parquet:HERE/a.parquet",)),
        (("--data", "HERE/a.CSV"), "photos", ("data.source=csv:HERE/a.CSV",)),
        (("--recipe", "digits", "--data", "HERE"), "digits", ("data.source=folder:HERE",)),
        (("--data", "HERE", "--recipe", "digits"), "digits", ("data.source=folder:HERE",)),
        (("--set", "train.epochs=5", "--epochs", "3"), "digits", ("train.epochs=5",)),
    ],
)
def test_short_forms_say_what_the_keys_say(
    short: tuple[str, ...],
    recipe: str,
    keys: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a.parquet").touch()
    (tmp_path / "a.CSV").touch()
    here = [text.replace("HERE", str(tmp_path)) for text in short]
    expected = load_recipe(recipe, [key.replace("HERE", str(tmp_path)) for key in keys])
    assert recipe_of(*here, monkeypatch=monkeypatch) == expected


@pytest.mark.parametrize("words", [("--epochs", "0"), ("--image-size", "4"), ("--epochs", "many")])
def test_impossible_values_name_the_option(words: tuple[str, str]) -> None:
    result = CliRunner().invoke(main, ["distill-and-export", *words])
    assert result.exit_code == 2 and words[0] in result.output
