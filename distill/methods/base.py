"""What a distillation method is to the trainer: named losses from two forward passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ...models.stages import StageOutput, StagePlan


@dataclass(frozen=True)
class Pair:
    """What a method may know of the two models when it builds its own layers."""

    classes: int
    student: StagePlan
    teacher: StagePlan | None  # None where there is no teacher


class Method(nn.Module):
    """A distillation method; its parameters, if any, are trained beside the student's.

    The trainer adds ``label_weight`` times the cross-entropy with the labels to what `forward`
    returns, and minimises the sum.
    """

    needs_teacher: ClassVar[bool] = True
    label_weight: float = 1.0

    def forward(self, student: StageOutput, teacher: StageOutput | None) -> dict[str, Tensor]:
        """Named losses, weights included, each a scalar tensor."""
        raise NotImplementedError
