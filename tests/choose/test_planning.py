"""What is measured before training, and by what it is found again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.choose import planning
from mldr_deploy.choose.budget import Budget
from mldr_deploy.choose.measurements import Measurements
from mldr_deploy.choose.request import ChoiceRequest
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.pipeline.recipe import load_recipe


@dataclass
class MeasuredPhase:
    """As much of a phase as the measuring looks at."""

    data: DataConfig
    dataset: Any
    accelerator: Any


def test_an_epoch_of_other_pictures_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many, of as many classes: large files take longer to decode than small ones."""
    measured: list[str] = []

    def seconds_per_epoch(phase: MeasuredPhase, *_: Any) -> float:
        measured.append(phase.dataset.fingerprint)
        return 2.5

    monkeypatch.setattr(planning, "seconds_per_epoch", seconds_per_epoch)
    recipe = load_recipe("digits")
    for fingerprint in ("small", "small", "large"):
        dataset = SimpleNamespace(
            fingerprint=fingerprint, train=range(8), val=range(2), classes=("a", "b")
        )
        phase = MeasuredPhase(recipe.data, dataset, SimpleNamespace(device="cpu"))
        opened: Any = SimpleNamespace(phase=lambda _, phase=phase: phase, dataset=dataset)
        request = ChoiceRequest(budget=Budget(max_ms=5))
        plan = planning.Planning(opened, request, Measurements(tmp_path), Silent(), "cpu")
        assert plan._cost(ModelConfig(name="test_resnet"), 32, recipe.training, 1) == 2.5
    assert measured == ["small", "large"]
