"""Labels only: the student alone, which every gain is measured against, and every teacher."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ...models.stages import StageOutput
from .base import Method, Pair, Step


class ScratchConfig(BaseModel):
    """`scratch` has no keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Scratch(Method):
    """No teacher, no further losses."""

    needs_teacher: ClassVar[bool] = False
    keys = ScratchConfig

    def __init__(self, config: ScratchConfig, pair: Pair) -> None:
        super().__init__()

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """Nothing beside the labels."""
        return {}
