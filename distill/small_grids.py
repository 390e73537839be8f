"""Convolutions on a CPU over grids so small that every output sees all of the input.

Late in a network at 32 px the grid is 2 x 2 or 1 x 1. There PyTorch's CPU kernels go on as if the
padding were a picture, and some of their gradients take far longer than even that (torch 2.14.1 on
AVX2, batch 128, forward and backward: a 3 x 3 convolution of 512 channels on a 1 x 1 grid 214 ms,
as the product of matrices that it is 9 ms; a depthwise one of 256 channels on 2 x 2 24 and 4 ms).
`small_grids` computes them as products, the same sums in another order.

A grid counts as small where a kernel of size k with padding p reaches all H positions from every
output i, p - stride i >= 0 and p - stride i + H <= k, likewise W, and has at most 4 positions.
Where no gradient is asked, only a single output is worth it.

In bf16 a stride over a single column of outputs is left out, in whatever grid. There
oneDNN's kernels are wrong (torch 2.14.1): with AMX the output, where it has several rows, and with
AVX-512 the weight's gradient, where the stride is wider than the grid and there is padding, as of
a 3 x 3 convolution of stride 2 over 1 x 1. The values are NaN or finite and meaningless.

A depthwise convolution stays in fp32 within autocast to bf16, whatever the grid: oneDNN has no
quick bf16 kernels of it. So do groups of two channels; from four on bf16 is the quicker one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
import torch.nn.grad
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_SMALL = 4  # positions; on larger grids PyTorch's own kernels are as quick
_NARROW = 2  # channels of a group, up to which a convolution within autocast is quicker in fp32
Pair = tuple[int, int]


def small_grids(device: torch.device) -> AbstractContextManager[object]:
    """Within it convolutions over small grids are products, if ``device`` is a CPU."""
    return SmallGrids() if device.type == "cpu" else nullcontext()


class SmallGrids(TorchFunctionMode):
    """Takes over the calls of torch.conv2d; everything else passes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d:
            return conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """F.conv2d: [B, D, H, W] and [K, D / groups, k, l] -> [B, K, H', W']."""
    output: Tensor
    if _stays_fp32(input, weight, groups):
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.float()
            return conv2d(input.float(), weight.float(), bias, stride, padding, dilation, groups)
    if not applies(input, weight, stride, padding, dilation):
        if input.device.type == "cpu" and not isinstance(padding, str):
            input, stride, padding = _one_column(input, weight, stride, padding, dilation)
        output = torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        return output
    step, pad = _pair(stride), _pair(padding)
    if groups == input.shape[1] == weight.shape[0] > 1:
        output = _Depthwise.apply(input, weight, step, pad)
    else:
        output = _as_product(input, weight, step, pad, groups)
    return output if bias is None else output + bias.to(output.dtype)[:, None, None]


def applies(
    input: Tensor,
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> bool:
    """Whether this one is computed as a product: on a CPU, a small grid.

    In fp32 or wider, or within autocast, which casts the product as it casts a convolution.
    """
    if input.dim() != 4 or input.shape[2] * input.shape[3] > _SMALL or isinstance(padding, str):
        return False
    if input.device.type != "cpu" or _pair(dilation) != (1, 1):
        return False
    single = input.dtype == weight.dtype and input.dtype in (torch.float32, torch.float64)
    if not single and not torch.is_autocast_enabled("cpu"):
        return False
    step, pad = _pair(stride), _pair(padding)
    grid = _grid(input, weight, step, pad)
    if not torch.is_grad_enabled() and grid != (1, 1):
        return False  # PyTorch's forward pass alone is the quicker one
    sides = zip(input.shape[2:], weight.shape[2:], grid, step, pad, strict=True)
    return all(out and p - s * (out - 1) >= 0 and p + side <= k for side, k, out, s, p in sides)


def _stays_fp32(input: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether autocast leaves this convolution alone: on a CPU, a group of one or two channels."""
    narrow = groups > 1 and weight.shape[1] <= _NARROW
    return narrow and input.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def _as_product(pixels: Tensor, weight: Tensor, stride: Pair, pad: Pair, groups: int) -> Tensor:
    """[B, D, H, W] -> [B, K, H', W'], in channels_last, by one product a group."""
    output: Tensor
    height, width = pixels.shape[2:]
    rows, columns = _grid(pixels, weight, stride, pad)
    seen = [
        weight[:, :, top : top + height, left : left + width].flatten(1)
        for top in (pad[0] - stride[0] * i for i in range(rows))
        for left in (pad[1] - stride[1] * j for j in range(columns))
    ]  # for every output [K, D/g HW]
    if groups == 1:
        output = F.linear(pixels.flatten(1), torch.cat(seen)).unflatten(1, (rows, columns, -1))
        return output.permute(0, 3, 1, 2)
    grouped = pixels.reshape(len(pixels), groups, -1).transpose(0, 1)  # [g, B, D/g HW]
    matrices = torch.stack([w.unflatten(0, (groups, -1)) for w in seen], dim=1)
    parts = (grouped @ matrices.flatten(1, 2).mT).unflatten(2, (rows, columns, -1))
    output = parts.permute(1, 2, 3, 0, 4).flatten(3)  # [g, B, H', W', K/g] -> [B, H', W', K]
    return output.permute(0, 3, 1, 2)


def _one_column(
    pixels: Tensor,
    weight: Tensor,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
) -> tuple[Tensor, Pair, Pair]:
    """Pixels, stride and padding of the same convolution, without a stride over one column.

    The pixels are padded or cut to the columns that the only output column sees.
    """
    step, pad, width = _pair(stride), _pair(padding), pixels.shape[-1]
    window = _pair(dilation)[1] * (weight.shape[-1] - 1) + 1
    bf16 = torch.is_autocast_enabled("cpu") or pixels.dtype == torch.bfloat16
    if not bf16 or step[1] == 1 or not 0 <= width + 2 * pad[1] - window < step[1]:
        return pixels, step, pad
    seen = F.pad(pixels, (pad[1], window - width - pad[1]))
    return seen, (step[0], 1), (pad[0], 0)


class _Depthwise(torch.autograd.Function):
    """PyTorch's own but for the weight's gradient: one multiply-add a tap, position, picture."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor, stride: Pair, pad: Pair) -> Tensor:
        ctx.save_for_backward(pixels, weight)
        ctx.stride, ctx.pad = stride, pad
        return F.conv2d(pixels, weight, None, stride, pad, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        pixels, weight = ctx.saved_tensors
        for_pixels = for_weight = None
        if ctx.needs_input_grad[0]:
            for_pixels = torch.nn.grad.conv2d_input(
                pixels.shape, weight, gradient, ctx.stride, ctx.pad, groups=len(weight)
            )
        if ctx.needs_input_grad[1]:
            for_weight = torch.zeros_like(weight)
            across = (_taps(pixels.shape[2 + d], gradient.shape[2 + d], ctx, d) for d in (0, 1))
            for (i, u, row), (j, v, column) in product(*across):
                share = (pixels[:, :, u, v] * gradient[:, :, i, j]).sum(0)
                for_weight[:, 0, row, column] += share
        return for_pixels, for_weight, None, None


def _taps(inputs: int, outputs: int, ctx: Any, side: int) -> Iterator[tuple[int, int, int]]:
    """(output position, input position, tap) along one side."""
    for out, position in product(range(outputs), range(inputs)):
        yield out, position, position - out * ctx.stride[side] + ctx.pad[side]


def _grid(pixels: Tensor, weight: Tensor, stride: Pair, pad: Pair) -> Pair:
    height, width = pixels.shape[2:]
    return (
        _outputs(height, weight.shape[2], stride[0], pad[0]),
        _outputs(width, weight.shape[3], stride[1], pad[1]),
    )


def _outputs(side: int, kernel: int, stride: int, pad: int) -> int:
    return max((side + 2 * pad - kernel) // stride + 1, 0)  # 0: PyTorch refuses it


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])
