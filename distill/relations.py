"""The divergence between relations of rank one, without the relations.

A relation is the outer product of a vector with itself, softmaxed over each column. With v and w
the student's and the teacher's vector of length D, the divergence of column j is

    KL_j = sum_i p_ij k (w_i w_j - v_i v_j) - LSE_i(k w_i w_j) + LSE_i(k v_i v_j),
    p_ij = softmax_i(k w_i w_j),

whose sum over j has the gradient k (Q v + Q' v - P v - P' v), Q being the student's p. So the loss
*and* its gradient come from one pass over the elements: the relations never exist whole, nothing
is kept for the backward pass but the gradient itself, and all heads share the teacher's side.

One operator to PyTorch, so that torch.compile and CUDA graphs take it as it is: on an NVIDIA GPU
the kernels of `relations_triton.py`; on a CPU the power series of `relations_series.py` where it
pays, else the matrices of `relations_symmetric.py`; where the logits are too large for both, or the
vectors too long, blocks of columns, below.

Shapes: H heads, N vectors of length D, J columns of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .relations_series import series_block, terms_needed
from .relations_symmetric import LARGEST_EXPONENT, largest_exponent, symmetric_block

# float32 elements of one block. On a CPU (4 MiB) small enough for the cache and large enough to
# be worth its calls; a GPU wants few, large launches. A step's memory is a small multiple of it.
_BLOCK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 24}


def relation_divergence(student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """Mean KL between the column softmaxes of scale * w w' (teacher) and scale * v v' (student).

    Args:
        student: [H, N, D], N vectors v a head; float32 or float64.
        teacher: [N, D], the vectors w, taken as constants; of the same type.
        scale: k of the module's formula.

    Returns:
        [H], mean over the N vectors and their D columns. It can be differentiated once.
    """
    wanted = torch.is_grad_enabled() and student.requires_grad
    loss: Tensor = _divergence(student, teacher.detach(), scale, wanted)[0]
    return loss


@torch.library.custom_op("mldr_deploy::relation_divergence", mutates_args=())
def _divergence(
    student: Tensor, teacher: Tensor, scale: float, wanted: bool
) -> tuple[Tensor, Tensor]:
    """The means [H] and, where ``wanted``, their gradient [H, N, D]; else an empty tensor."""
    if student.is_cuda and student.dtype == torch.float32 and _has_triton():
        from .relations_triton import divergence

        return divergence(student, teacher, scale, wanted)
    return blocked(student, teacher, scale, wanted)


@_divergence.register_fake
def _(student: Tensor, teacher: Tensor, scale: float, wanted: bool) -> tuple[Tensor, Tensor]:
    gradient = student.new_empty(student.shape if wanted else (0,))
    return student.new_empty(student.shape[0]), gradient


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
    if torch.is_grad_enabled():
        raise RuntimeError("relation_divergence can be differentiated only once")
    (gradient,) = ctx.saved_tensors
    return gradient * upstream[:, None, None], None, None, None


_divergence.register_autograd(_backward, setup_context=_keep)


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None


def blocked(student: Tensor, teacher: Tensor, scale: float, wanted: bool) -> tuple[Tensor, Tensor]:
    """The pass of the module's docstring over blocks of vectors, in plain PyTorch.

    [H, N, D], [N, D] -> the means [H] and, where ``wanted``, their gradient [H, N, D].
    """
    teacher = teacher.contiguous()
    heads, vectors, length = student.shape
    loss = student.new_zeros(heads)
    gradient = student.new_empty(student.shape if wanted else (0,))
    block = _BLOCK_ELEMENTS.get(student.device.type, 1 << 20)
    exponent = largest_exponent(student, teacher, scale)
    terms, dtype = terms_needed(exponent, student.dtype, length)
    work: Callable[..., tuple[Tensor, Tensor | None]]
    if terms:
        rows = max(1, 4 * block // ((1 + heads) * terms * length * dtype.itemsize))
        work = partial(series_block, terms=terms, dtype=dtype)
    elif exponent <= LARGEST_EXPONENT and (1 + heads) * length**2 <= block:
        rows = max(1, block // (2 * (1 + heads) * length**2))
        work = symmetric_block
    else:
        rows = max(1, block // (length * length))
        work = partial(_block, columns=min(length, max(1, block // length)))
    for start in range(0, vectors, rows):
        part = student[:, start : start + rows].contiguous()
        value, slope = work(part, teacher[start : start + rows], scale, wanted)
        loss += value
        if slope is not None:
            gradient[:, start : start + rows] = slope
    mean = 1.0 / (vectors * length)
    return loss.mul_(mean), gradient.mul_(scale * mean)


def _block(
    student: Tensor, teacher: Tensor, scale: float, wanted: bool, *, columns: int
) -> tuple[Tensor, Tensor | None]:
    """Sum of KL_j over a block of vectors, and (Q v + Q' v - P v - P' v) when it is wanted.

    student [H, N, D], teacher [N, D] -> [H], [H, N, D].
    """
    heads, _, length = student.shape
    stacked = student.transpose(0, 1)  # [N, H, D]
    together = torch.cat([teacher[:, None], stacked], 1)
    loss = student.new_zeros(heads)
    gradient = torch.zeros_like(student) if wanted else None
    for first in range(0, length, columns):
        window = slice(first, first + columns)
        weights, total, log_total = _column_exponentials(teacher, window, scale)  # [N, J, D]
        averages = torch.bmm(together, weights.mT)  # rows first: many times faster than weights @
        averages = (averages / total.mT).transpose(0, 1)  # P'w, P'v: [1 + H, N, J]
        entropy = scale * teacher[:, window] * averages[0] - log_total
        loss += (entropy - scale * student[..., window] * averages[1:]).sum(dim=(1, 2))
        if gradient is not None:
            gradient[..., window] -= averages[1:]
            gradient -= torch.bmm(stacked[..., window] / total.mT, weights).transpose(0, 1)
        for head in range(heads):
            v = student[head]
            weights, total, log_total = _column_exponentials(v, window, scale)
            loss[head] += log_total.sum()
            if gradient is not None:
                own = torch.bmm(v[:, None], weights.mT).div_(total.mT)
                gradient[head, :, window] += own[:, 0]
                share = v[:, None, window] / total.mT
                gradient[head] += torch.bmm(share, weights)[:, 0]
    return loss, gradient


def _column_exponentials(
    vectors: Tensor, window: slice, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """exp(k v_i v_j - max_i) of a window of columns j, its sums over i, and their logarithms.

    [N, D] -> [N, J, D], [N, J, 1], [N, J]; the last is the LSE of the unshifted exponents.
    """
    column = vectors[:, window]  # [N, J]
    largest, smallest = vectors.amax(-1, keepdim=True), vectors.amin(-1, keepdim=True)
    shift = scale * torch.maximum(column * largest, column * smallest)
    weights = torch.baddbmm(
        shift[..., None].expand(-1, -1, vectors.shape[-1]),
        column[..., None],
        vectors[:, None],
        beta=-1.0,
        alpha=scale,
    ).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    return weights, total, total[..., 0].log() + shift
