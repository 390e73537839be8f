"""One training step's forward pass: normalisation, targets, and what belongs to the module."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.distill.methods.base import Keys, Method, Pair, Step
from mldr_deploy.distill.task import FrozenTeacher, Normalise, Task
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.models.stages import StageOutput, StagePlan, plan_stages

CLASSES = 5
SPEC = Preprocessing(size=(32, 32), mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))


class LogitKeys(Keys):
    teaches_classifier: ClassVar[tuple[str, ...]] = ("always",)
    always: int = 1


class Echo(Method):
    """Gives back the logits it saw, so that a test can compute with them."""

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        return {
            "student": student.logits,
            **({} if teacher is None else {"teacher": teacher.logits}),
        }


def echo(label_weight: float = 3.0) -> Echo:
    keys = LogitKeys(label_weight=label_weight)
    return Echo(keys, Pair(CLASSES, StagePlan((), (), "map", 0, 1, 1), None))


@pytest.fixture
def student() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = create_model(
        ModelConfig(name="test_vit"), num_classes=CLASSES, image_size=32
    )
    return model


def pixels(batch: int) -> Tensor:
    return torch.randint(
        256, (batch, 3, 32, 32), generator=torch.Generator().manual_seed(0)
    ).float()


def step(targets: Tensor) -> Step:
    return Step(targets, torch.arange(len(targets)), torch.tensor(0.0))


def test_normalise_is_pixels_of_255_less_mean_over_deviation() -> None:
    mean, std = (np.reshape(numbers, (1, 3, 1, 1)) for numbers in (SPEC.mean, SPEC.std))
    expected = (pixels(2).numpy() / 255 - mean) / std
    np.testing.assert_allclose(Normalise(SPEC)(pixels(2)), expected, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_loss_is_the_cross_entropy_with_mixed_and_smoothed_targets(
    student: nn.Module, smoothing: float
) -> None:
    task = Task(student, plan_stages(student, 32), echo(), SPEC, label_smoothing=smoothing)
    one_hot = np.eye(CLASSES, dtype=np.float32)
    mixed = 0.7 * one_hot[[0, 1, 2]] + 0.3 * one_hot[[3, 1, 0]]
    losses = task(pixels(3), None, step(torch.from_numpy(mixed)))
    smoothed = (1 - smoothing) * mixed + smoothing / CLASSES
    logits = losses["student"].detach().double().numpy()
    expected = -(smoothed * log_softmax(logits, axis=1)).sum(axis=1).mean()
    assert losses["labels"].item() == pytest.approx(3.0 * expected, rel=1e-5)


def test_without_a_weight_the_labels_are_no_part_of_the_loss(student: nn.Module) -> None:
    task = Task(student, plan_stages(student, 32), echo(label_weight=0), SPEC)
    assert set(task(pixels(2), None, step(torch.eye(CLASSES)[:2]))) == {"student"}


def test_teacher_sees_the_same_pixels_under_its_own_normalisation(student: nn.Module) -> None:
    seen: dict[str, Tensor] = {}

    class Eye(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen["teacher"] = x
            return x.mean(dim=(2, 3))

    own = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    teacher = FrozenTeacher(Eye(), StagePlan((), (), "map", 0, 1, 1), own)
    answers = teacher(pixels(2))
    assert answers.features is None and not answers.stages
    torch.testing.assert_close(seen["teacher"], (pixels(2) / 255 - 0.5) / 0.25)
    task = Task(student, plan_stages(student, 32), echo(), SPEC)
    losses = task(pixels(2), answers, step(torch.full((2, CLASSES), 1 / CLASSES)))
    assert losses["teacher"] is answers.logits


def test_holds_the_student_and_the_method_and_nothing_else(student: nn.Module) -> None:
    task = Task(student, plan_stages(student, 32), echo(), SPEC)
    assert set(task.state_dict()) == {f"student.{name}" for name in student.state_dict()}
