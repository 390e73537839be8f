"""A finished run's outcome and predictions are those that were written, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.tensors import write_tensors
from mldr_deploy.compare import outcomes
from mldr_deploy.compare.outcomes import (
    Outcome,
    read_outcome,
    read_predictions,
    student_outcome,
    teacher_outcome,
    tuning_outcome,
)
from mldr_deploy.errors import MldrError

BEST = np.arange(40, dtype=np.int32).reshape(8, 5)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "test.safetensors", {"best_classes": BEST})
    hashed = {"predictions_sha256": sha256(tmp_path / "test.safetensors"), "test_top1": 87.5}
    write_sealed(tmp_path / "result.json", hashed)
    return tmp_path


def test_what_was_written_is_read(run: Path) -> None:
    outcome = read_outcome(run / "result.json")
    assert outcome["test_top1"] == 87.5
    np.testing.assert_array_equal(read_predictions(run, outcome), BEST)


def test_another_figure_is_refused(run: Path) -> None:
    path = run / "result.json"
    path.write_text(path.read_text().replace("87.5", "97.5"))
    with pytest.raises(MldrError, match=r"result\.json is damaged \(.*: delete result\.json, and"):
        read_outcome(path)


def test_other_predictions_are_refused(run: Path) -> None:
    write_tensors(run / "test.safetensors", {"best_classes": BEST + 1})
    with pytest.raises(MldrError, match=r"test\.safetensors is not what was written: delete res"):
        read_predictions(run, read_outcome(run / "result.json"))


def test_outcomes_of_an_older_release_are_read(run: Path) -> None:
    (run / "result.json").write_text(json.dumps({"test_top1": 87.5}))
    np.testing.assert_array_equal(read_predictions(run, read_outcome(run / "result.json")), BEST)


@pytest.mark.parametrize("work", [teacher_outcome, student_outcome, tuning_outcome])
def test_weights_trained_on_other_pictures_are_refused(
    work: Callable[[Any], Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was killed before it wrote the outcome, and pictures were added since."""
    earlier = SimpleNamespace(data_fingerprint="before")
    monkeypatch.setattr(outcomes, "read_trained", lambda _: earlier)
    pipeline = SimpleNamespace(
        recipe=SimpleNamespace(teacher="a teacher"),
        teacher=lambda: tmp_path,
        student=lambda: tmp_path,
        dataset=SimpleNamespace(fingerprint="now", source="folder:photos"),
    )
    with pytest.raises(MldrError, match=f"{tmp_path} was trained on other pictures than folder:"):
        work(pipeline)
