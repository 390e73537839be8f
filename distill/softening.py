"""Logits as a loss compares them: in float32, standardised where a recipe says so, divided by T.

Standardising is the Z-score of Sun et al., "Logit Standardization in Knowledge Distillation"
(CVPR 2024, arXiv 2403.01427): zero mean and unit standard deviation, of the teacher's and of the
student's logits. What is compared then no longer depends on the size of either's logits.
"""

from __future__ import annotations

from torch import Tensor

from .precision import at_least_float32

# Added to the variance. Logits of a new classifier (deviation 0.01 and more) hardly feel it, and
# the gradient of constant logits stays below 1 / sqrt(1e-6) = 1000 times the loss's own.
_EPSILON = 1e-6


def soften(logits: Tensor, temperature: float, *, standardise: int | None = None) -> Tensor:
    """Logits / T in float32, or float64 where they are float64; any shape.

    ``standardise``: the axis along which they are standardised first; None: as they are.
    """
    wide = at_least_float32(logits)
    return (wide if standardise is None else z_score(wide, standardise)) / temperature


def z_score(logits: Tensor, axis: int) -> Tensor:
    """(z - mean) / sqrt(variance + 1e-6) along ``axis``; the variance is the population's."""
    centred = logits - logits.mean(dim=axis, keepdim=True)
    return centred * (centred.square().mean(dim=axis, keepdim=True) + _EPSILON).rsqrt()
