"""OFA-KD: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in
Knowledge Distillation" (NeurIPS 2023, arXiv 2310.19444).

Features of unlike architectures do not match, so each stage of the student gets a projector and a
classifier of its own, and is taught in the space of logits. With p the teacher's and s a head's
softmax at temperature T, y the image's class (section 3.2, equations 6 and 7, as the authors'
released code computes them),

    OFA(s) = -mean_b sum_c w_bc log s_bc,   w_bc = (p_bc + [c = y])^gamma - [c = y]
    L = label_weight * CE + logits_weight * OFA(student) + stage_weight * sum_k OFA(z_k).

So the target's weight is (1 + p_y)^gamma - 1, the 1 being the cross-entropy's: gamma > 1 lifts the
target class where the teacher is sure of it. The paper's equation leaves the other classes at p_c,
the code raises them to p_c^gamma; they agree at gamma = 1, and we follow the code, which the
published figures come from. gamma = 1 for all heads, T = 1, all weights 1 and stages 1 to 4 are its
defaults (`train.py`: ofa_*); its one published command, for ImageNet, sets gamma = 1.5.

The projectors are theirs stage by stage (`distillers/ofa.py`), but for two things of ours: tokens
are averaged where they read the class token of a student that has one, and the grid of tokens is
halved once, where they halve it down to 7 x 7, which is the same at 224 px with patches of 16.
Swin's stages are maps here and tokens there.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...models.stages import StageOutput
from ..projectors import stage_projectors
from .base import Keys, Method, Pair, Step


class OfaConfig(Keys):
    """OFA-KD: a taught head on every stage."""

    teaches_classifier: ClassVar[tuple[str, ...]] = ("logits_weight",)

    gamma: float = Field(
        default=1.0,
        gt=0,
        description="Exponent of the target's enhancement (1 + p_target)^gamma; the released "
        "code's epsilon.",
    )
    temperature: float = Field(default=1.0, gt=0, description="T; divides both sides' logits.")
    logits_weight: float = Field(
        default=1.0, ge=0, description="Weight of the OFA loss of the student's logits; 0: off."
    )
    stage_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the OFA loss of each stage's head; 0: off, and no projectors.",
    )


class Ofa(Method):
    """The OFA loss on the logits and on four stages, through the projectors MLDR-KD took over."""

    name: ClassVar[str] = "ofa"
    keys = OfaConfig
    config: OfaConfig

    def __init__(self, config: OfaConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        assert pair.teacher is not None
        width = pair.student.shapes[-1].channels
        if pair.student.layout == "map":  # tokens keep the student's own width
            width = max(width, pair.teacher.feature_width)
        self.projectors = None
        if config.stage_weight:
            self.projectors = stage_projectors(pair.student, width, pair.classes)

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"ofa.logits", "ofa.stages"}; of a mixed image, the class with the larger share."""
        assert teacher is not None
        config = self.config
        weights = ofa_weights(
            (teacher.logits.float() / config.temperature).softmax(dim=1), step.labels, config.gamma
        )
        losses: dict[str, Tensor] = {}
        if config.logits_weight:
            losses["ofa.logits"] = config.logits_weight * self._loss(student.logits, weights)
        if self.projectors is not None:
            heads = zip(self.projectors, student.stages, strict=True)
            each = [self._loss(projector(stage).logits, weights) for projector, stage in heads]
            losses["ofa.stages"] = config.stage_weight * torch.stack(each).sum()
        return losses

    def _loss(self, logits: Tensor, weights: Tensor) -> Tensor:
        log_s = F.log_softmax(logits.float() / self.config.temperature, dim=1)
        return -(weights * log_s).sum(dim=1).mean()


def ofa_weights(teacher: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """(p + [c = y])^gamma - [c = y]: probabilities [B, C], labels [B] -> [B, C]."""
    target = torch.zeros_like(teacher).scatter_(1, labels[:, None], 1.0)
    return (teacher + target) ** gamma - target
