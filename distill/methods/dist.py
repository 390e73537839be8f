"""DIST: Huang et al., "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022, 2205.10536).

A strong teacher's exact probabilities are too much to ask; their order is enough. With
S, T [B, C] the softmax of both models' logits at temperature tau and rho Pearson's correlation
(equations 7 to 10),

    inter = 1/B sum_b (1 - rho(S[b, :], T[b, :]))        between the classes of an image
    intra = 1/C sum_c (1 - rho(S[:, c], T[:, c]))        between the images of a class
    L = label_weight * CE + tau^2 * (beta * inter + gamma * intra).

tau = 1, beta = gamma = 1 are OFA-KD's comparison (`train.py`: dist_*) and the defaults of the
authors' class (`dist_kd.py` of hunto/image_classification_sota, which weighs the sum once more by
kd_loss_weight); tau^2 is there where their CIFAR-100 runs use tau = 4. Epsilon is theirs.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ...models.stages import StageOutput
from .base import LogitKeys, Method, Pair, Step

_EPSILON = 1e-8  # the authors'; keeps a constant row or column from dividing by zero


class DistConfig(LogitKeys):
    """Correlations instead of a divergence."""

    teaches_classifier: ClassVar[tuple[str, ...]] = ("beta", "gamma")

    beta: float = Field(
        default=1.0, ge=0, description="Weight of the correlation between classes; 0: off."
    )
    gamma: float = Field(
        default=1.0, ge=0, description="Weight of the correlation between images; 0: off."
    )


class Dist(Method):
    """Pearson's correlation of rows and of columns of the two models' probabilities."""

    name: ClassVar[str] = "dist"
    keys = DistConfig
    config: DistConfig

    def __init__(self, config: DistConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        if config.gamma:
            self.require_batch(pair, 2)

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"dist.inter", "dist.intra"}."""
        assert teacher is not None
        config = self.config
        s = config.soften(student).softmax(dim=1)
        t = config.soften(teacher).softmax(dim=1)
        losses: dict[str, Tensor] = {}
        if config.beta:
            losses["dist.inter"] = config.temperature**2 * config.beta * disagreement(s, t)
        if config.gamma:
            losses["dist.intra"] = config.temperature**2 * config.gamma * disagreement(s.mT, t.mT)
        return losses


def disagreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the rows of 1 - Pearson's correlation: [R, D], [R, D] -> []."""
    s = student - student.mean(dim=1, keepdim=True)
    t = teacher - teacher.mean(dim=1, keepdim=True)
    scale = s.norm(dim=1) * t.norm(dim=1) + _EPSILON
    loss: Tensor = 1 - ((s * t).sum(dim=1) / scale).mean()
    return loss
