"""Two models' answers to one batch, in either layout, without the models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mldr_deploy.distill.methods.base import Pair, Step
from mldr_deploy.models.stages import StageOutput, StagePlan, StageShape

CLASSES, BATCH, IMAGES = 5, 6, 20


@dataclass(frozen=True)
class Scene:
    """What a method is built from and called with; arrays are float64 copies for references."""

    pair: Pair
    student: StageOutput
    teacher: StageOutput
    step: Step

    @property
    def logits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Student's and teacher's."""
        return self.student.logits.detach().double().numpy(), self.teacher.logits.double().numpy()

    @property
    def features(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Student's and teacher's."""
        assert self.student.features is not None and self.teacher.features is not None
        mine, theirs = self.student.features.detach().double(), self.teacher.features.double()
        return mine.numpy(), theirs.numpy()


def plan(layout: str, width: int) -> StagePlan:
    shapes = {
        "map": tuple(StageShape(width >> (3 - k), 16 >> k, 16 >> k) for k in range(4)),
        "token": (StageShape(width, 4, 4),) * 4,
    }
    return StagePlan((0, 1, 2, 3), shapes[layout], layout, 0, width, width + 8)  # type: ignore[arg-type]


def output(of: StagePlan, *, learns: bool) -> StageOutput:
    return StageOutput(
        (2 * torch.randn(BATCH, CLASSES)).requires_grad_(learns),
        tuple(
            torch.randn(BATCH, s.channels, s.height, s.width).requires_grad_(learns)
            for s in of.shapes
        ),
        torch.randn(BATCH, of.pooled_width).requires_grad_(learns),
    )


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """``scene(student="map", teacher="token", seed=0)``: six images of twenty, five classes."""

    def make(student: str = "map", teacher: str = "token", seed: int = 0) -> Scene:
        torch.manual_seed(seed)
        plans = plan(student, 32), plan(teacher, 48)
        labels = torch.arange(IMAGES) % CLASSES
        indices = torch.randperm(IMAGES)[:BATCH]
        step = Step(torch.eye(CLASSES)[labels[indices]], indices, torch.tensor(0.5))
        outputs = output(plans[0], learns=True), output(plans[1], learns=False)
        return Scene(Pair(CLASSES, *plans, labels=labels, batch=BATCH), *outputs, step)

    return make
