"""DKD: Zhao et al., "Decoupled Knowledge Distillation" (CVPR 2022, arXiv 2203.08679).

KD's divergence, taken apart (section 3.2): with p_y the probability of the image's class y at
temperature T and q = softmax over the other classes alone,

    TCKD = KL((p_y, 1 - p_y) of the teacher || the same of the student)
    NCKD = KL(q of the teacher || q of the student)
    L = label_weight * CE + w * T^2 * (alpha * TCKD + beta * NCKD),

means over the images, where KD would weigh NCKD by the teacher's 1 - p_y. w rises linearly from
0 to 1 over the first `warmup` of the run, by step where the authors' code rises by epoch.

T = 1, alpha = 1, beta = 2 and no warm-up are OFA-KD's comparison (`train.py`: dkd_*; its loss knows
no warm-up). The authors' code (mdistiller, `engine/cfg.py` and `configs/`) takes T = 4, alpha = 1,
beta = 8 and 20 of 240 epochs on CIFAR-100 (beta 0.5 to 8 by teacher, the surer the larger).
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...models.stages import StageOutput
from .base import LogitKeys, Method, Step

_EXCLUDED = -1e9  # a logit that no softmax sees; finite, so that 0 * log(0) stays 0


class DkdConfig(LogitKeys):
    """Decoupled knowledge distillation."""

    teaches_classifier: ClassVar[tuple[str, ...]] = ("alpha", "beta")

    alpha: float = Field(
        default=1.0, ge=0, description="Weight of the image's class against all others; 0: off."
    )
    beta: float = Field(
        default=2.0,
        ge=0,
        description="Weight of the relations among the other classes; 0: off. The surer the "
        "teacher, the larger it may be.",
    )
    warmup: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the run over which both weights rise from 0 to their full size; 0: "
        "they have it from the start.",
    )


class Dkd(Method):
    """The two halves of KD's divergence, each with its own weight."""

    name: ClassVar[str] = "dkd"
    keys = DkdConfig
    config: DkdConfig

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"dkd.target", "dkd.others"}; of a mixed image, the class with the larger share."""
        assert teacher is not None
        config = self.config
        labels = step.labels[:, None]
        s, t = config.soften(student), config.soften(teacher)
        rise = (step.done / config.warmup).clamp(max=1) if config.warmup else 1.0
        scale = rise * config.temperature**2
        losses: dict[str, Tensor] = {}
        if config.alpha:
            losses["dkd.target"] = scale * config.alpha * target_divergence(s, t, labels)
        if config.beta:
            losses["dkd.others"] = scale * config.beta * others_divergence(s, t, labels)
        return losses


def target_divergence(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """TCKD: mean KL of (p_y, 1 - p_y); logits [B, C], labels [B, 1]."""
    p, q = _binary(teacher, labels), _binary(student, labels)  # log-probabilities [B, 2]
    return F.kl_div(q, p, log_target=True, reduction="batchmean")


def others_divergence(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """NCKD: mean KL of the softmax over all classes but y; logits [B, C], labels [B, 1]."""
    p, q = (F.log_softmax(z.scatter(1, labels, _EXCLUDED), dim=1) for z in (teacher, student))
    return (p.exp() * (p - q)).sum(dim=1).mean()


def _binary(logits: Tensor, labels: Tensor) -> Tensor:
    """log p_y and log(1 - p_y), the latter without ever computing 1 - p_y: [B, 2]."""
    others = logits.scatter(1, labels, _EXCLUDED).logsumexp(dim=1, keepdim=True)
    both = torch.cat([logits.gather(1, labels), others], dim=1)
    return both - logits.logsumexp(dim=1, keepdim=True)
