"""The selective scan in few, wide, out-of-place operations: the form that exporters see.

b batch, l length, g scans side by side, d channels, n states a channel; k chunks of c positions,
both about the root of l. Every chunk is walked at once from a zero state, then the states that
enter the chunks, then each is added to its chunk with the decay since: 2 (c + k) operations and
two dozen more instead of several for each position. No loop, scan or cumulative operator is in
the graph, and the one exponential of a difference has a sum of steps, never a quotient, so nothing
overflows. Laid out [b, k, c, g, n, d]: B and C broadcast without a transposition.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def parallel_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """y [b, l, g, d] from x, dt [b, l, g, d], A [g, d, n] and B, C [b, l, g, n]."""
    length = x.shape[1]
    dx, dt, B, C = (_chunks(t) for t in (dt * x, dt, B, C))  # [b, k, c, g, d or n]
    slopes = A.mT  # [g, n, d]
    decay = torch.exp(dt[..., None, :] * slopes)
    local = _walk(decay, dx[..., None, :] * B[..., None], dim=2)
    since = torch.exp(_running_sum(dt)[..., None, :] * slopes)
    states = local + since * _entering(since[:, :, -1:], local[:, :, -1:])
    y = (C[..., None, :] @ states).squeeze(-2)
    return y.flatten(1, 2)[:, :length]


def _walk(decay: Tensor, drive: Tensor, dim: int) -> Tensor:
    """h = decay * h + drive along `dim`, from zero."""
    found: list[Tensor] = []
    for a, u in zip(decay.split(1, dim), drive.split(1, dim), strict=True):
        found.append(a * found[-1] + u if found else u)
    return torch.cat(found, dim)


def _entering(total: Tensor, last: Tensor) -> Tensor:
    """What each chunk begins with, from every chunk's whole decay and last state."""
    nothing = torch.zeros_like(last[:, :1])
    if last.shape[1] == 1:
        return nothing
    return torch.cat((nothing, _walk(total[:, :-1], last[:, :-1], dim=1)), dim=1)


def _running_sum(dt: Tensor) -> Tensor:
    """Sums of dt [b, k, c, g, d] up to and with each position: a product with a triangle."""
    size = dt.shape[2]
    triangle = torch.ones(size, size, dtype=dt.dtype, device=dt.device).tril()
    sums: Tensor = (triangle @ dt.flatten(3)).unflatten(3, dt.shape[3:])
    return sums


def _chunks(t: Tensor) -> Tensor:
    """[b, l, g, e] -> [b, k, c, g, e], zeros at the end: a zero step changes no state."""
    length = t.shape[1]
    size = math.ceil(math.sqrt(length))
    count = math.ceil(length / size)
    chunks: Tensor = F.pad(t, (0, 0, 0, 0, 0, count * size - length)).unflatten(1, (count, size))
    return chunks
