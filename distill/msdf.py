"""MSDF: multi-scale dynamic fusion of the stages' logits (arXiv 2502.06189, section 3.3).

B batch, S stages, P descriptor width, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .precision import at_least_float32


class Fusion(NamedTuple):
    """Fused logits, and how much each stage had to say about each class."""

    logits: Tensor  # [B, C]
    weights: Tensor  # [B, S, C], sums to one over the stages


class MultiScaleFusion(nn.Module):
    """Weighs the stages anew for every sample and class: fused = sum_k w_k * z_k.

    One gate, Linear(P, 4C) - GELU - Linear(4C, C), looks at each stage's descriptor; a softmax
    across the stages makes its answers weights.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(width, 4 * classes), nn.GELU(), nn.Linear(4 * classes, classes)
        )
        for layer in self.gate:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, descriptors: Tensor, logits: Tensor) -> Fusion:
        """Descriptors [B, S, P] and stage logits [B, S, C] -> fused logits and their weights."""
        weights = torch.softmax(at_least_float32(self.gate(descriptors)), dim=1)
        return Fusion((weights * at_least_float32(logits)).sum(dim=1), weights)
