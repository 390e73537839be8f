"""The comparisons and choices that docs/results publishes can be carried out as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from mldr_deploy.compare.matrix import load_matrix
from mldr_deploy.pipeline.recipe import load_recipe

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
CHOICES = sorted((RESULTS / "choose").glob("*.toml"))
MATRICES = sorted({*RESULTS.rglob("*.toml")} - {*CHOICES})


@pytest.mark.parametrize("path", MATRICES, ids=[path.stem for path in MATRICES])
def test_a_published_comparison_loads(path: Path) -> None:
    assert load_matrix(path).pairs


@pytest.mark.parametrize("path", CHOICES, ids=[path.stem for path in CHOICES])
def test_the_recipe_of_a_published_choice_loads(path: Path) -> None:
    assert load_recipe(str(path)).teacher


def test_the_gains_of_a_recipe_are_measured_with_that_recipe() -> None:
    matrix = load_matrix(RESULTS / "cifar100-cpu.toml")
    compared = matrix.section("mobilevit", "mldr-kd", 0).model_dump(exclude={"name", "description"})
    assert compared == load_recipe("cifar100-cpu").model_dump(exclude={"name", "description"})
