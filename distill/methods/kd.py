"""KD: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531).

L = label_weight * CE(s, y) + kd_weight * T^2 * (1/B) sum_b KL(softmax(t_b/T) || softmax(s_b/T))

T = 1 and both weights 1 are OFA-KD's comparison (`train.py`: kd_temperature, gt_loss_weight,
kd_loss_weight). Between CNNs on CIFAR-100 the usual setting is that of CRD (RepDistiller's script)
and mdistiller: T = 4, label_weight = 0.1, kd_weight = 0.9. The paper itself fixes none of them.
With standardised logits its authors (Sun et al., CVPR 2024) take T = 2, label_weight = 0.1 and
kd_weight = 9.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...models.stages import StageOutput
from .base import LogitKeys, Method, Step


class KdConfig(LogitKeys):
    """Hinton's knowledge distillation."""

    teaches_classifier: ClassVar[tuple[str, ...]] = ("kd_weight",)

    kd_weight: float = Field(default=1.0, ge=0, description="Weight of the divergence; 0: off.")


class Kd(Method):
    """The softened divergence between the two models' class probabilities."""

    name: ClassVar[str] = "kd"
    keys = KdConfig
    config: KdConfig

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"kd"}."""
        assert teacher is not None
        if not self.config.kd_weight:
            return {}
        s, t = self.config.soften(student), self.config.soften(teacher)
        divergence = F.kl_div(
            F.log_softmax(s, dim=1), F.log_softmax(t, dim=1), log_target=True, reduction="batchmean"
        )
        return {"kd": self.config.kd_weight * self.config.temperature**2 * divergence}
