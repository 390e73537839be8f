"""The divergence between relations of rank one as a power series; `relations.py` has the formula.

With V the largest element in size, u = v / V and L = k V^2,

    exp(k v_i v_j) = sum_m L^m / m! * u_i^m u_j^m,

so that the matrix E of these exponentials is F' diag(L^m / m!) F, F [R, D] being the powers of u.
All that the divergence needs are products of E with a vector (`relations_symmetric.py`).
Each then takes 2 R D multiplications and no exponential, where D^2 exponentials stood.

Digits. f_j is a sum of positive numbers of which one is exp(k v_j^2) >= 1. Where v_i and v_j have
one sign, every term is positive. Where they differ the terms cancel, and what rounding leaves there
is at most exp(L / 4) units in the last place of f_j (worst at v_j = -V / 2, all else at V). So
float32 serves up to L = 8, float64 up to 64; beyond, the exponentials are made one by one, and so
they are where that costs less.

Shapes: H heads, G = 1 + H with the teacher first, N vectors of length D, R terms.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .relations_symmetric import sum_by_products

_DROPPED = 1e-8  # what is left out of the series, as a part of the largest exponential
_LARGEST = {torch.float32: 8.0, torch.float64: 64.0}  # L


def terms_needed(exponent: float, dtype: torch.dtype, length: int) -> tuple[int, torch.dtype]:
    """R, and the type to compute in; (0, ...) where the series does not serve or not pay.

    ``exponent`` is L, ``dtype`` the logits', ``length`` D.

    It serves float32, and pays where two numbers a term are no more than D; float64 counts twice.
    There it costs about as much as the D^2 exponentials in cache.
    """
    if dtype == torch.float32:
        for wide, largest in _LARGEST.items():
            if exponent <= largest:  # not so of NaN
                terms = _terms(exponent)
                pays = 2 * terms * wide.itemsize // dtype.itemsize <= length
                return (terms if pays else 0), wide
    return 0, dtype


def _terms(exponent: float) -> int:
    """Terms after which L^m / m! has fallen below `_DROPPED` of exp(L); at least 2 L of them.

    From 2 L on, a pair of elements smaller than V cannot be the one that loses most.
    """
    count, left = 1, math.exp(-exponent)
    while left > _DROPPED or count < 2 * exponent:
        left *= exponent / count
        count += 1
    return count


def series_block(
    student: Tensor,
    teacher: Tensor,
    scale: float,
    wanted: bool,
    *,
    terms: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None]:
    """`sum_by_products` with E as ``terms`` terms, computed in ``dtype``."""
    together = torch.cat([teacher[None], student]).to(dtype)  # [G, N, D]
    size = max(float(together.abs().amax()), torch.finfo(dtype).tiny)
    powers = _powers(together / size, terms)  # [G, N, R, D]
    weights = _coefficients(scale * size**2, terms).to(dtype)  # [R]

    def product(rows: Tensor, powers: Tensor) -> Tensor:
        return ((rows @ powers.mT) * weights) @ powers

    return sum_by_products(together[1:], together[0], scale, wanted, powers, product)


def _powers(u: Tensor, terms: int) -> Tensor:
    """u^0 to u^(R-1): [G, N, D] -> [G, N, R, D]."""
    powers = u.new_empty(*u.shape[:2], terms, u.shape[2])
    powers[:, :, 0] = 1
    for m in range(1, terms):
        torch.mul(powers[:, :, m - 1], u, out=powers[:, :, m])
    return powers


def _coefficients(exponent: float, terms: int) -> Tensor:
    """L^m / m!, float64 [R]."""
    steps = exponent / torch.arange(terms, dtype=torch.float64).clamp(min=1)
    steps[0] = 1
    return steps.cumprod(0)
