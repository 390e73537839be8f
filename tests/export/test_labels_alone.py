"""Which run counts as the same student by labels alone, and which is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.evidence import Evidence
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.trained import TrainedModel, save_trained
from mldr_deploy.errors import MldrError
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.labels_alone import labels_alone

SPEC = Preprocessing(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


def record(**update: Any) -> TrainedModel:
    plain: dict[str, Any] = {
        "model": {"name": "tiny"},
        "num_classes": 2,
        "image_size": 8,
        "classes": ["cat", "dog"],
        "preprocessing": SPEC,
        "family": "cnn",
        "parameters": 5,
        "data": {"val_fraction": 0.1, "split_seed": 0},
        "data_fingerprint": "f",
        "evidence": Evidence(images=50, top1=64.0, loss=1.0, preprocessing=SPEC),
        "provenance": {"recipe": {"method": {"name": "scratch"}}},
    }
    return TrainedModel(**plain | update)


def stored(folder: Path, **update: Any) -> ExportConfig:
    save_trained(folder, record(**update), {"weight": np.ones(3, np.float32)})
    return ExportConfig(labels_alone=str(folder))


def test_its_validation_accuracy_is_taken(tmp_path: Path) -> None:
    rival = labels_alone(record(), stored(tmp_path / "plain"))
    assert rival is not None and rival.top1 == 64.0
    assert labels_alone(record(), ExportConfig()) is None
    pretrained = record(model={"name": "tiny", "weights": "timm", "fresh_head": True})
    assert labels_alone(pretrained, ExportConfig(labels_alone=str(tmp_path / "plain"))) == rival


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"model": {"name": "huge"}}, "another model (huge)"),
        ({"model": {"name": "tiny", "patch_size": 4}}, "other keys of its [student]"),
        ({"image_size": 16}, "images of 16 px"),
        ({"data_fingerprint": "g"}, "other data"),
        ({"data": {"val_fraction": 0.1, "split_seed": 1}}, "other validation images"),
        ({"provenance": {"recipe": {"method": {"name": "kd"}}}}, "a teacher"),
        ({"evidence": None}, "no validation figures"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, update: dict[str, Any], words: str) -> None:
    with pytest.raises(MldrError) as refusal:
        labels_alone(record(), stored(tmp_path / "plain", **update))
    assert f"was trained with {words}: name a run of tiny on the same data" in str(refusal.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MldrError, match="holds no trained model"):
        labels_alone(record(), ExportConfig(labels_alone=str(tmp_path)))
