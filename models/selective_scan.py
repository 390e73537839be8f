"""The selective scan of Mamba (arXiv 2312.00752, algorithm 2), computed in three ways.

    h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] x[t]        y[t] = C[t] . h[t] + D x[t]

b batch, l length, d channels, n states a channel; g scans side by side that share nothing but
their length (Vision Mamba's two directions). x, dt, y [b, l, g, d]; A [g, d, n]; B, C
[b, l, g, n]; D [g, d].
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..errors import Unavailable
from .chunked_scan import chunked_scan

Way = Literal["auto", "kernel", "chunked", "sequential"]


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


def kernel_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """mamba-ssm's kernel, which wants length last and knows the g scans as groups of channels."""
    kernel = cuda_kernel()
    if kernel is None or not x.is_cuda:
        fault = "is not installed" if kernel is None else f"needs a GPU and x is on the {x.device}"
        raise Unavailable(
            f"mamba-ssm's selective scan {fault}; use the chunked scan, or a GPU and "
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
