"""FitNet: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015, arXiv 1412.6550).

Stages of the teacher are hints for the student's: a regressor r_k, a 1x1 convolution, brings the
student's channels to the teacher's (section 2.2, trained along with the labels rather than before
them, as later comparisons do),

    L = label_weight * CE + hint_weight * sum_k mean (r_k(student_k) - teacher_k)^2,

mean over batch, channels and positions. Maps and tokens compare alike, since stages are
[B, C, H, W] either way; where the grids differ both are averaged to the coarser of the two.

The paper guides one middle stage. All four stages and a weight of 1 are OFA-KD's comparison
(`train.py`: fitnet_*), whose released code takes CNNs only although its Table 2 has other teachers:
how those grids were matched is not published. Tian et al. (CRD) and mdistiller take one stage (hint
layer 2) and a weight of 100.
Nothing scales the teacher's features: a transformer's large ones need a smaller weight.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...models.stages import StageOutput, StageShape
from .base import Keys, Method, Pair, Step

StageNumber = Literal[1, 2, 3, 4]


class FitNetConfig(Keys):
    """Hints from the teacher's stages."""

    stages: tuple[StageNumber, ...] = Field(
        default=(1, 2, 3, 4), description="The stages that are regressed, 1 to 4."
    )
    hint_weight: float = Field(
        default=1.0, ge=0, description="Weight of each stage's mean squared error; 0: off."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages must name one or more of 1, 2, 3, 4 once, not {self.stages}")
        return self


class FitNet(Method):
    """Regresses the teacher's stages from the student's."""

    name: ClassVar[str] = "fitnet"
    needs_teacher_stages: ClassVar[bool] = True
    keys = FitNetConfig
    config: FitNetConfig

    def __init__(self, config: FitNetConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        assert pair.teacher is not None
        chosen = config.stages if config.hint_weight else ()
        shapes = [(pair.student.shapes[k - 1], pair.teacher.shapes[k - 1]) for k in chosen]
        self.regressors = nn.ModuleDict(
            {str(k): Regressor(*both) for k, both in zip(chosen, shapes, strict=True)}
        )

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"hints.1", ...}, one a stage."""
        assert teacher is not None
        losses: dict[str, Tensor] = {}
        for name, regressor in self.regressors.items():
            at = int(name) - 1
            error = regressor(student.stages[at], teacher.stages[at])
            losses[f"hints.{name}"] = self.config.hint_weight * error
        return losses


class Regressor(nn.Module):
    """A student's stage against the teacher's, on the coarser of their grids."""

    def __init__(self, student: StageShape, teacher: StageShape) -> None:
        super().__init__()
        self.grid = min(student.height, teacher.height), min(student.width, teacher.width)
        self.channels = nn.Conv2d(student.channels, teacher.channels, kernel_size=1, bias=False)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[B, C, H, W], [B, C', H', W'] -> mean squared error []."""
        # A 1x1 convolution and an average may change places: the average first is less work.
        guess = self.channels(_pooled(student, self.grid)).float()
        return F.mse_loss(guess, _pooled(teacher.float(), self.grid))


def _pooled(stage: Tensor, grid: tuple[int, int]) -> Tensor:
    return stage if stage.shape[2:] == torch.Size(grid) else F.adaptive_avg_pool2d(stage, grid)
