"""Keys as Python gives them, read back by the recipe's own reader."""

from __future__ import annotations

from pathlib import Path

import pytest

import mldr_deploy as md
from mldr_deploy.bundle.progress import Progress
from mldr_deploy.choose.request import ChoiceRequest
from mldr_deploy.compare.workers import Work
from mldr_deploy.errors import MldrError
from mldr_deploy.pipeline.choices import default_recipe, overrides, source_of
from mldr_deploy.pipeline.recipe import Recipe, load_recipe


def test_values_of_every_kind_reach_the_recipe() -> None:
    keys = {
        "train.epochs": 3,
        "optimizer": {"lr": 0.01},
        "student.name": "vit_tiny_patch16_224",
        "student.options": {"depth": 2, "act_layer": "gelu"},
        "export.precisions": ["fp32", "int8"],
        "data.source": 'folder:a "quoted" b',
        "teacher.weights": None,
    }
    recipe = load_recipe("digits", overrides(keys))
    assert (recipe.train.epochs, recipe.optimizer.lr) == (3, 0.01)
    assert recipe.student.options == {"depth": 2, "act_layer": "gelu"}
    assert recipe.export.precisions == ("fp32", "int8")
    assert recipe.data.source == 'folder:a "quoted" b'


def test_a_value_that_toml_lacks_is_refused() -> None:
    with pytest.raises(MldrError, match=r"train\.epochs: object is no value of a recipe"):
        overrides({"train": {"epochs": object()}})


def test_a_path_of_the_user_s_own_makes_the_recipe_photos(tmp_path: Path) -> None:
    (tmp_path / "pets.csv").write_text("file,label\n")
    assert source_of(str(tmp_path)) == f"folder:{tmp_path}"
    assert source_of(str(tmp_path / "pets.csv")) == f"csv:{tmp_path / 'pets.csv'}"
    assert [default_recipe(s) for s in ("folder:x", "digits", None)] == [
        "photos",
        "digits",
        "digits",
    ]


def test_choose_takes_what_distill_and_export_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[ChoiceRequest, Recipe, Path]] = []

    def choose_student(
        request: ChoiceRequest,
        recipe: Recipe,
        out: Path,
        *,
        device: str,
        progress: Progress,
        engine: Work | None,
    ) -> None:
        assert engine is None
        asked.append((request, recipe, out))

    monkeypatch.setattr("mldr_deploy.choose.student_choice.choose_student", choose_student)
    budget = {"max_ms": 5}
    md.choose(data=tmp_path, keys={"train.epochs": 3}, budget=budget, hours=1, out="runs/c")
    ((request, recipe, out),) = asked
    assert (request.budget.max_ms, request.hours, out) == (5, 1, Path("runs/c"))
    keys = ("train.epochs=3", f"data.source=folder:{tmp_path}")
    assert recipe == load_recipe("photos", keys)
