"""Labels only: the student alone, which every gain is measured against, and every teacher."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...models.stages import StageOutput
from .base import Method, Step


class Scratch(Method):
    """No teacher, no further losses."""

    name: ClassVar[str] = "scratch"
    needs_teacher: ClassVar[bool] = False

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """Nothing beside the labels."""
        return {}
