"""RKD: Park et al., "Relational Knowledge Distillation" (CVPR 2019, arXiv 1904.05068).

The student's pooled features x_1 .. x_B should stand to each other as the teacher's do, whatever
their widths (section 3.2). With mu the mean distance of a batch and h the Huber loss (delta = 1),

    psi_D(i, j) = |x_i - x_j| / mu
    psi_A(i, j, k) = cos of the angle at x_j between x_i and x_k
    L = label_weight * CE + distance_weight * mean h(psi_D^student - psi_D^teacher)
                          + angle_weight * mean h(psi_A^student - psi_A^teacher),

means over all pairs and triples, degenerate ones (which are 0 on both sides) included, as in the
authors' code. Weights 25 and 50: CRD's and mdistiller's comparisons (`RKD.py`, `engine/cfg.py`) and
OFA-KD's (`train.py`: rkd_*).
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...models.stages import StageOutput
from .base import Keys, Method, Pair, Step

# Images closer than this share of the mean squared distance count as one: rounding, not angles.
_COINCIDENT = 1e-6


class RkdConfig(Keys):
    """Distances and angles between the images of a batch."""

    distance_weight: float = Field(default=25.0, ge=0, description="Of the distances; 0: off.")
    angle_weight: float = Field(default=50.0, ge=0, description="Of the angles; 0: off.")


class Rkd(Method):
    """The two models' distances and angles between images; any two widths compare."""

    name: ClassVar[str] = "rkd"
    needs_features: ClassVar[bool] = True
    keys = RkdConfig
    config: RkdConfig

    def __init__(self, config: RkdConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.require_batch(pair, 3 if config.angle_weight else 2)

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"rkd.distance", "rkd.angle"}."""
        assert teacher is not None and teacher.features is not None
        assert student.features is not None
        config, losses = self.config, dict[str, Tensor]()
        with torch.autocast(student.logits.device.type, enabled=False):
            s, t = _squared_distances(student.features), _squared_distances(teacher.features)
            if config.distance_weight:
                loss = F.smooth_l1_loss(_relative(s), _relative(t))
                losses["rkd.distance"] = config.distance_weight * loss
            if config.angle_weight:
                losses["rkd.angle"] = config.angle_weight * F.smooth_l1_loss(_angles(s), _angles(t))
        return losses


def _squared_distances(features: Tensor) -> Tensor:
    """|x_i - x_j|^2, exactly 0 where two images coincide: [B, F] -> [B, B].

    Everything else follows from these, so no [B, B, F] has to exist. The mean is taken off
    first: it changes no distance, and products of large numbers would drown small differences.
    """
    x = features.float()
    x = x - x.mean(dim=0)
    squares = x.square().sum(dim=1)
    distances = squares[:, None] + squares - 2 * x @ x.mT
    return distances.masked_fill(distances <= _COINCIDENT * distances.detach().mean(), 0.0)


def _root(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths and their inverses, both 0 and without slope where the square is 0."""
    apart = squared > 0
    root = torch.where(apart, squared, 1.0).sqrt()
    return root * apart, apart / root


def _relative(squared: Tensor) -> Tensor:
    """Distances by their mean over the pairs of two images: [B, B] -> [B, B]."""
    lengths, count = _root(squared)[0], len(squared)
    return lengths * (count * (count - 1) / lengths.sum().clamp(min=torch.finfo().tiny))


def _angles(squared: Tensor) -> Tensor:
    """cos of the angle at j between i and k, by the law of cosines: [B, B] -> [B(j), B(i), B(k)].

    0 where i or k is j.
    """
    inverse = _root(squared)[1]
    scalar = (squared[:, :, None] + squared[:, None, :] - squared) / 2  # (x_i - x_j).(x_k - x_j)
    return scalar * inverse[:, :, None] * inverse[:, None, :]
