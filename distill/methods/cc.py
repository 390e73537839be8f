"""CC: Peng et al., "Correlation Congruence for Knowledge Distillation" (ICCV 2019, 1904.01802).

The matrix of correlations between the B images of a batch should be the teacher's. With x the
pooled features, scaled to length one, and the Gaussian kernel exp(-gamma |x_i - x_j|^2) as its
Taylor series up to order P (section 3.3),

    K_ij = exp(-2 gamma) sum_{p=0..P} (2 gamma)^p / p! (x_i . x_j)^p
    L = label_weight * CE + correlation_weight * 1/B^2 sum_ij (K_ij^student - K_ij^teacher)^2.

The paper adds KD's divergence and draws batches by class; here the correlations stand alone, on the
batches that every method gets. gamma = 0.4 and P = 2 as in public code of this formula. No source
that we found fixes its weight: 100 is ours, about the size of the labels' loss.

The "CC" in the tables of CRD and OFA-KD is another loss: mean_i sum_f |a_i - b_i| |a_i+1 - b_i+1|
of two learnt 128-wide embeddings a, b, with weight 0.02, which Tian et al. had from the authors by
mail (`distiller_zoo/CC.py`). It correlates nothing between images of one model, so we keep to the
paper, and its figures here do not compare with those tables.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...models.stages import StageOutput
from .base import Keys, Method, Pair, Step


class CcConfig(Keys):
    """Correlation congruence."""

    gamma: float = Field(default=0.4, gt=0, description="Of the Gaussian kernel.")
    order: int = Field(default=2, ge=1, le=8, description="P, last power of the kernel's series.")
    correlation_weight: float = Field(
        default=100.0,
        ge=0,
        description="Weight of the mean squared difference of the correlations; 0: off. Not a "
        "published value: it brings the term to the size of the labels' loss.",
    )


class Cc(Method):
    """The two models' correlations between images; features of any two widths compare."""

    name: ClassVar[str] = "cc"
    needs_features: ClassVar[bool] = True
    keys = CcConfig
    config: CcConfig

    def __init__(self, config: CcConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.require_batch(pair, 2)

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"cc"}."""
        assert teacher is not None and teacher.features is not None
        assert student.features is not None
        if not self.config.correlation_weight:
            return {}
        with torch.autocast(student.logits.device.type, enabled=False):
            difference = self._kernel(student.features) - self._kernel(teacher.features)
            return {"cc": self.config.correlation_weight * difference.square().mean()}

    def _kernel(self, features: Tensor) -> Tensor:
        """[B, F] -> [B, B]."""
        x = F.normalize(features.float(), dim=1)
        cosine, gamma = x @ x.mT, 2 * self.config.gamma
        series = torch.zeros_like(cosine)
        for p in range(self.config.order, -1, -1):  # Horner
            series = series * cosine + gamma**p / math.factorial(p)
        return math.exp(-gamma) * series
