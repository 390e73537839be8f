"""A finished run's outcome and predictions are those that were written, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.tensors import write_tensors
from mldr_deploy.compare.outcomes import read_outcome, read_predictions
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
