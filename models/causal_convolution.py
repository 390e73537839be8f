"""Mamba's causal depthwise convolution and its SiLU: y[t] = silu(bias + sum_j w[j] x[t - 3 + j]).

b batch, l length, d channels, k taps. On a CPU, where the time goes into moving memory, a few
in-place operations on rows of the batch that a cache holds; elsewhere PyTorch's convolution.
export/mamba_ops.py says what the operator is in ONNX.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 1 << 17  # elements of a block of rows, a thread


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """y [b, l, d] of x [b, l, d], weight [d, 1, k] and bias [d], in the dtype of `x`."""
    exact = x.dtype in (torch.float32, torch.float64)  # bf16 sums of taps would round each
    if x.device.type == "cpu" and exact:
        y: Tensor = _convolve(x, weight, bias)
        return y
    return library_convolution(x, weight, bias)


def library_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same by PyTorch's convolution, which wants the length last."""
    length, taps = x.shape[1], weight.shape[-1]
    y = F.conv1d(x.mT, weight, bias, padding=taps - 1, groups=x.shape[2])
    return F.silu(y[..., :length]).mT


@torch.library.custom_op("mldr_deploy::causal_convolution", mutates_args=())
def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = _empty(x)
    for rows in _blocks(x):
        _write_sums(x[rows], weight, bias, y[rows])
        F.silu(y[rows], inplace=True)
    return y


@_convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _empty(x)


@torch.library.custom_op("mldr_deploy::causal_convolution_backward", mutates_args=())
def _convolve_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dweight, dbias; the sums before SiLU are made anew."""
    dx, dweight, dbias = _empty(x), torch.zeros_like(weight), torch.zeros_like(bias)
    for rows in _blocks(x):
        sums = _empty(x[rows])
        _write_sums(x[rows], weight, bias, sums)
        grad = torch.ops.aten.silu_backward(dy[rows], sums)
        dbias += grad.sum(0).sum(0)
        dx[rows].zero_()
        for j, (behind, ahead) in enumerate(_shifts(x.shape[1], weight.shape[-1])):
            dx[rows, behind].addcmul_(grad[:, ahead], weight[:, 0, j])
            product = torch.mul(grad[:, ahead], x[rows, behind], out=sums[:, ahead])
            dweight[:, 0, j] += product.sum(0).sum(0)
    return dx, dweight, dbias


@_convolve_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(x), torch.empty_like(weight), torch.empty_like(bias)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = _convolve_backward(dy, *ctx.saved_tensors)
    return gradients


_convolve.register_autograd(_backward, setup_context=_keep_for_backward)


def _write_sums(x: Tensor, weight: Tensor, bias: Tensor, y: Tensor) -> None:
    y.copy_(bias)
    for j, (behind, ahead) in enumerate(_shifts(x.shape[1], weight.shape[-1])):
        y[:, ahead].addcmul_(x[:, behind], weight[:, 0, j])


def _shifts(length: int, taps: int) -> list[tuple[slice, slice]]:
    """For each tap the positions that give and those that receive."""
    behind = [min(taps - 1 - j, length) for j in range(taps)]
    return [(slice(0, length - by), slice(by, length)) for by in behind]


def _blocks(x: Tensor) -> Iterator[slice]:
    rows = max(1, _BLOCK * torch.get_num_threads() // x[0].numel())
    return (slice(first, first + rows) for first in range(0, len(x), rows))


def _empty(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)
