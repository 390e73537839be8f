"""RSD: Zhang et al., "Cross-Architecture Distillation Made Simple with Redundancy Suppression"
(ICCV 2025, arXiv 2507.21844).

What two architectures agree on is worth learning, what only one of them has is not. With f_t the
teacher's pooled features [B, D_t] and f_s = A(f) the student's, brought to that width by
A = Linear(D, 2D) - batch norm - GELU - Linear(2D, D_t) without biases, both standardised over the
batch,

    C = f_t' f_s / B                                             [D_t, D_t]
    L = label_weight * CE + rsd_weight * ( sum_i (C_ii - 1)^2 + kappa * sum_{i != j} C_ij^2 ).

A is trained beside the student and does not ship. The weights, kappa, the 1e-5 that is added to the
standard deviations and the first values of A are those of the paper and its released code.

`rsd-logits` takes the two models' logits for f_t and f_s, without A. The paper reports a form on
logits too; its details are not known here, so this one is ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ...models.stages import StageOutput
from .base import Keys, Method, Pair, Step

_EPSILON = 1e-5  # the authors'; keeps a constant feature from dividing by zero


class RsdConfig(Keys):
    """Redundancy suppression between the pooled features."""

    rsd_weight: float = Field(
        default=0.1, ge=0, description="Weight of the cross-correlation; 0: off."
    )
    kappa: float = Field(
        default=0.01, ge=0, description="Weight of the correlations off the diagonal within it."
    )


class RsdLogitsConfig(RsdConfig):
    """Redundancy suppression between the logits."""

    teaches_classifier: ClassVar[tuple[str, ...]] = ("rsd_weight",)


class Rsd(Method):
    """The cross-correlation of the two models' features, drawn to the identity."""

    name: ClassVar[str] = "rsd"
    needs_features: ClassVar[bool] = True
    keys = RsdConfig
    config: RsdConfig

    def __init__(self, config: RsdConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.require_batch(pair, 2)
        assert pair.teacher is not None
        self.adapter = None
        if config.rsd_weight:
            self.adapter = adapter(pair.student.pooled_width, pair.teacher.pooled_width)

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"rsd"}."""
        assert teacher is not None and teacher.features is not None
        assert student.features is not None
        if self.adapter is None:
            return {}
        adapted = self.adapter(student.features)
        return {"rsd": self.config.rsd_weight * redundancy(adapted, teacher.features, self.config)}


class RsdLogits(Method):
    """The same of the two models' logits."""

    name: ClassVar[str] = "rsd-logits"
    keys = RsdLogitsConfig
    config: RsdLogitsConfig

    def __init__(self, config: RsdLogitsConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.require_batch(pair, 2)

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"rsd"}."""
        assert teacher is not None
        if not self.config.rsd_weight:
            return {}
        loss = redundancy(student.logits, teacher.logits, self.config)
        return {"rsd": self.config.rsd_weight * loss}


def adapter(width: int, teacher_width: int) -> nn.Sequential:
    """A, from the student's features [B, D] to the teacher's width [B, D_t]."""
    first, last = (
        nn.Linear(width, 2 * width, bias=False),
        nn.Linear(2 * width, teacher_width, bias=False),
    )
    for layer in (first, last):
        nn.init.trunc_normal_(layer.weight, std=0.02)
    return nn.Sequential(first, nn.BatchNorm1d(2 * width), nn.GELU(), last)


def redundancy(student: Tensor, teacher: Tensor, config: RsdConfig) -> Tensor:
    """sum_i (C_ii - 1)^2 + kappa * sum_{i != j} C_ij^2, in float32: [B, D], [B, D] -> []."""
    with torch.autocast(student.device.type, enabled=False):
        correlation = over_batch(teacher.float()).mT @ over_batch(student.float()) / len(student)
        diagonal = correlation.diagonal()
        others = correlation.square().sum() - diagonal.square().sum()
        return (diagonal - 1).square().sum() + config.kappa * others


def over_batch(features: Tensor) -> Tensor:
    """Every column with mean 0 and standard deviation 1: [B, D] -> [B, D]."""
    std = features.std(dim=0, correction=0, keepdim=True)
    return (features - features.mean(dim=0, keepdim=True)) / (std + _EPSILON)
