"""The selective scan of Mamba (arXiv 2312.00752, algorithm 2): one function, three ways.

    h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] x[t]        y[t] = C[t] . h[t] + D x[t]

b batch, l length, d channels, n states a channel; g scans side by side that share nothing but
their length (Vision Mamba's two directions). x, dt, y [b, l, g, d]; A [g, d, n]; B, C
[b, l, g, n]; D [g, d]. States are laid out [n, b, k, g, d], so that what is broadcast is never
the innermost axis.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import Unavailable

Way = Literal["auto", "kernel", "chunked", "sequential"]

_CHUNK = 16  # positions; passes over l are 2 * _CHUNK + l / _CHUNK long
_BLOCK = 1 << 17  # elements of a [n, b, k, g, d] block in backward: what a cache holds


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, way: Way = "auto"
) -> Tensor:
    """y [b, l, g, d] of the recurrence above, computed in at least float32, in the dtype of `x`.

    `dt` is the positive step, softplus already taken; `A` is negative. `auto` takes mamba-ssm's
    CUDA kernel where it is installed and `x` is on a GPU, else the chunked scan, which trains
    anywhere and exports; `sequential` is the definition, for tests.

    Raises:
        Unavailable: `kernel` was asked for and this machine has none.
    """
    if way == "auto":
        way = "kernel" if x.is_cuda and cuda_kernel() is not None else "chunked"
    wide = torch.promote_types(x.dtype, torch.float32)
    y = _WAYS[way](x.to(wide), dt.to(wide), A.to(wide), B.to(wide), C.to(wide))
    return torch.addcmul(y, D.to(wide), x.to(wide)).to(x.dtype)


def sequential_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence position by position; autograd keeps every state."""
    state = x.new_zeros(*x[:, 0].shape, A.shape[-1])  # [b, g, d, n]
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t, ..., None] * A)
        state = decay * state + (dt * x)[:, t, ..., None] * B[:, t, :, None]
        outputs.append((state * C[:, t, :, None]).sum(-1))
    return torch.stack(outputs, dim=1)


def chunked_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Chunks side by side, position by position inside them, then one pass over their carries.

    Keeps its arguments for backward and makes the states, n times their size, anew there.
    """
    y: Tensor = _ChunkedScan.apply(x, dt, A, B, C)
    return y


def kernel_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """mamba-ssm's kernel, which wants length last and knows the g scans as groups of channels."""
    kernel = cuda_kernel()
    if kernel is None or not x.is_cuda:
        what = "is not installed" if kernel is None else f"needs a GPU and x is on the {x.device}"
        raise Unavailable(
            f"mamba-ssm's selective scan {what}; use the chunked scan, or a GPU and "
            'pip install "mldr-deploy[mamba]"'
        )
    return through_kernel(kernel, x, dt, A, B, C)


def through_kernel(
    kernel: Callable[..., Tensor], x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor
) -> Tensor:
    """`kernel(u [b, gd, l], delta [b, gd, l], A [gd, n], B, C [b, g, n, l])` -> [b, l, g, d]."""
    channels, states = ((t.flatten(2).mT.contiguous() for t in (x, dt)), (B, C))
    by_group = (t.permute(0, 2, 3, 1).contiguous() for t in states)
    y = kernel(*channels, A.flatten(0, 1).contiguous(), *by_group)
    scanned: Tensor = y.mT.unflatten(2, x.shape[2:])
    return scanned


@functools.cache
def cuda_kernel() -> Callable[..., Tensor] | None:
    """mamba-ssm's `selective_scan_fn`, or None where it is absent or does not fit this PyTorch."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    kernel: Callable[..., Tensor] = selective_scan_fn
    return kernel


_WAYS: dict[Way, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "kernel": kernel_scan,
    "chunked": chunked_scan,
    "sequential": sequential_scan,
}


class _ChunkedScan(torch.autograd.Function):
    """The chunked scan with its gradient in closed form, which is a scan from the end."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        ctx.save_for_backward(x, dt, A, B, C)
        length = x.shape[1]
        decay, drive = _terms(x, dt, A, B)
        states = _scan(decay, drive)
        outputs = [(h * c).sum(0) for h, c in zip(states, _states(C), strict=True)]
        return _joined(outputs, length)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        x, dt, A, B, C = ctx.saved_tensors
        rows = max(1, _BLOCK // (A.numel() * math.ceil(x.shape[1] / _CHUNK)))
        parts = [
            _gradients(A, *block)
            for block in zip(*(t.split(rows) for t in (x, dt, B, C, dy)), strict=True)
        ]
        dx, ddt, dB, dC = (torch.cat(found) for found in list(zip(*parts, strict=True))[:4])
        dA = torch.stack([part[4] for part in parts]).sum(0)
        return dx, ddt, dA, dB, dC


def _gradients(
    A: Tensor, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, dy: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dx, ddt, dB, dC, dA for rows of a batch.

    With G[t] the gradient of h[t]: G[t] = C[t] dy[t] + exp(dt[t+1] A) G[t+1].
    """
    length = x.shape[1]
    decay, drive = _terms(x, dt, A, B)
    states = _scan(decay, drive)
    before = [_shifted(states[-1], 1), *states[:-1]]
    pulls = [c * g for c, g in zip(_states(C), _chunks(dy), strict=True)]
    after = [*decay[1:], _shifted(decay[0], -1)]
    grads = _scan(after[::-1], pulls[::-1], reverse=True)[::-1]

    slopes = A.movedim(-1, 0)[:, None, None]  # [n, 1, 1, g, d]
    dA = torch.zeros_like(slopes[:, 0, 0])
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    each = zip(_chunks(x), _chunks(dt), _states(B), _chunks(dy), strict=True)
    for t, (x_t, dt_t, B_t, dy_t) in enumerate(each):
        grad, state = grads[t], states[t]
        log_decay = grad * before[t] * decay[t]  # the gradient of dt A
        dA += (log_decay * dt_t).sum((1, 2))
        along_B = (grad * B_t).sum(0)  # [b, k, g, d]
        ddt = (log_decay * slopes).sum(0) + along_B * x_t
        dB, dC = (grad * (dt_t * x_t)).sum(-1), (state * dy_t).sum(-1)  # [n, b, k, g]
        found.append((along_B * dt_t, ddt, dB.movedim(0, -1), dC.movedim(0, -1)))
    dx, ddt, dB, dC = (_joined(parts, length) for parts in zip(*found, strict=True))
    return dx, ddt, dB, dC, dA.movedim(0, -1)


def _scan(
    decay: Sequence[Tensor], drive: Sequence[Tensor], *, reverse: bool = False
) -> list[Tensor]:
    """h = decay * h + drive through every chunk and from chunk to chunk.

    Lists over the positions of a chunk, in the order of the scan, of [n, b, k, g, d]; with
    `reverse` the last of the k chunks comes first.
    """
    total, state = decay[0], drive[0]
    for a, u in zip(decay[1:], drive[1:], strict=True):
        total, state = total * a, torch.addcmul(u, a, state)
    entering: list[Tensor] = []
    carry = torch.zeros_like(state[:, :, 0])
    chunks: Iterable[tuple[Tensor, Tensor]] = zip(total.unbind(2), state.unbind(2), strict=True)
    for a, u in reversed([*chunks]) if reverse else chunks:
        entering.append(carry)
        carry = torch.addcmul(u, a, carry)
    state = torch.stack(entering[::-1] if reverse else entering, dim=2)
    states = []
    for a, u in zip(decay, drive, strict=True):
        state = torch.addcmul(u, a, state)
        states.append(state)
    return states


def _terms(x: Tensor, dt: Tensor, A: Tensor, B: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """exp(dt A) and dt B x, each a list over the positions of a chunk of [n, b, k, g, d]."""
    slopes = A.movedim(-1, 0)[:, None, None]
    decay = [torch.exp(step * slopes) for step in _chunks(dt)]
    drive = [u * b for u, b in zip(_chunks(dt * x), _states(B), strict=True)]
    return decay, drive


def _chunks(t: Tensor) -> tuple[Tensor, ...]:
    """[b, l, g, e] -> for each position of a chunk [b, k, g, e]; zeros fill the last chunk.

    A zero step leaves the state as it is, so the filling changes nothing.
    """
    length = t.shape[1]
    count = math.ceil(length / _CHUNK)
    size = math.ceil(length / count)
    filled = F.pad(t, (0, 0, 0, 0, 0, count * size - length))
    parts: tuple[Tensor, ...] = filled.unflatten(1, (count, size)).unbind(2)
    return parts


def _states(t: Tensor) -> list[Tensor]:
    """B or C [b, l, g, n] -> for each position of a chunk [n, b, k, g, 1]."""
    return [part.movedim(-1, 0)[..., None] for part in _chunks(t)]


def _joined(parts: Sequence[Tensor], length: int) -> Tensor:
    """Back from `_chunks`: for each position of a chunk [b, k, g, e] -> [b, l, g, e]."""
    return torch.stack(tuple(parts), dim=2).flatten(1, 2)[:, :length]


def _shifted(t: Tensor, by: int) -> Tensor:
    """[n, b, k, g, d] with every chunk's entry moved `by` +1 or -1 chunks; zeros move in."""
    rest = t[:, :, :-1] if by > 0 else t[:, :, 1:]
    return F.pad(rest, (0, 0, 0, 0, max(by, 0), max(-by, 0)))
