"""Vision Mamba as student and as teacher, MambaOut as student, in the real stages on digits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mldr_deploy.bundle.trained import load_trained
from mldr_deploy.data.data_config import AugmentConfig, DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.distill import training_run
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.phase import Phase, Training
from mldr_deploy.distill.teacher_loading import load_teacher
from mldr_deploy.distill.training_config import OptimizerConfig, TrainConfig
from mldr_deploy.models.architecture_config import ModelConfig

VIM = ModelConfig(
    name="vim_nano_patch4_32", patch_size=8, options={"depth": 4, "embed_dim": 32, "d_state": 4}
)
MAMBAOUT = ModelConfig(name="test_mambaout")
RESNET = ModelConfig(name="test_resnet")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Few of the embedded scans: 64 to learn from, 40 and 40 held out."""
    whole = load_dataset(DataConfig())
    return replace(
        whole,
        train=whole.train.subset(np.arange(64)),
        val=whole.val.subset(np.arange(40)),
        test=whole.test.subset(np.arange(40)),
    )


@pytest.fixture
def phase(phase: Phase, digits: Dataset) -> Phase:
    return replace(phase, data=DataConfig(batch_size=16), dataset=digits)


def training(precision: str) -> Training:
    return Training(
        train=TrainConfig.model_validate({"epochs": 4, "precision": precision, "log_steps": 1}),
        optimizer=OptimizerConfig(name="adamw", lr=3e-3, weight_decay=0.05),
        augment=AugmentConfig(crop="none", flip=0),
    )


def label_losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line["labels"] for line in map(json.loads, lines) if "labels" in line]


@pytest.mark.parametrize(
    ("student", "precision"),
    [
        (VIM, "fp32"),
        pytest.param(VIM, "bf16", marks=pytest.mark.slow),
        pytest.param(MAMBAOUT, "fp32", marks=pytest.mark.slow),
    ],
)
def test_a_mamba_student_learns_from_a_resnet(
    phase: Phase, student: ModelConfig, precision: str
) -> None:
    taught = training_run.train_teacher(
        replace(phase, folder=phase.folder / "t"), RESNET, training("fp32")
    )
    teacher = load_teacher(RESNET.model_copy(update={"weights": str(taught)}), phase)
    folder = training_run.distill(phase, student, teacher, MethodConfig(), training(precision))
    record, tensors = load_trained(folder)
    assert record.family == "mamba"
    assert not any("projector" in name for name in tensors)
    losses = label_losses(phase.folder)
    assert len(losses) == 16
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.1


@pytest.mark.slow
def test_a_vim_teacher_teaches_a_resnet(phase: Phase) -> None:
    taught = training_run.train_teacher(
        replace(phase, folder=phase.folder / "t"), VIM, training("fp32")
    )
    teacher = load_teacher(VIM.model_copy(update={"weights": str(taught)}), phase)
    assert (teacher.plan.layout, teacher.plan.feature_width) == ("token", 32)
    training_run.distill(phase, RESNET, teacher, MethodConfig(), training("fp32"))
    losses = label_losses(phase.folder)
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.1
