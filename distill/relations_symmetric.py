"""The divergence between relations of rank one by products with E, E_ij = exp(k v_i v_j).

`relations.py` has the formula. Without a shift E equals its transpose, so one E serves rows and
columns: the sums f_j = (E 1)_j whose logarithms are the LSEs, (Q'v)_j = (E v)_j / f_j and
(Q v)_i = (E (v / f))_i, the teacher's alike. Here E is the matrix of exponentials itself, in blocks
that stay in a core's cache; `relations_series.py` has the same products without the matrix.

Float32 holds exp(64) and sums of it. The rounding of an exponent is that of a shifted one.

Shapes: H heads, G = 1 + H with the teacher first, N vectors of length D.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

LARGEST_EXPONENT = 64.0


def largest_exponent(student: Tensor, teacher: Tensor, scale: float) -> float:
    """The largest k v_i v_j in size, NaN where a logit is; infinite on a GPU, which is not asked.

    student [H, N, D], teacher [N, D].
    """
    if student.device.type != "cpu":
        return math.inf
    if not student.numel():
        return 0.0
    return scale * float(torch.stack([student.abs().amax(), teacher.abs().amax()]).max()) ** 2


def symmetric_block(
    student: Tensor, teacher: Tensor, scale: float, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """`sum_by_products` with the exponentials made one by one."""
    vectors = torch.cat([teacher[None], student])
    matrices = ((scale * vectors)[..., :, None] * vectors[..., None, :]).exp_()  # [G, N, D, D]
    return sum_by_products(student, teacher, scale, with_gradient, matrices, torch.matmul)


def sum_by_products(
    student: Tensor,
    teacher: Tensor,
    scale: float,
    with_gradient: bool,
    factors: Tensor,
    product: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor | None]:
    """Sum of KL_j over a block of vectors, and (Q v + Q' v - P v - P' v) where that is asked.

    Args:
        student: [H, N, D].
        teacher: [N, D].
        scale: k.
        with_gradient: whether the gradient is computed.
        factors: what makes E of every vector, [G, N, ...].
        product: of rows [..., K, D] with the E of a part of ``factors``. Rows come first because
            batched products are fast in that.

    Returns:
        [H] and [H, N, D].
    """
    teacher_factors, student_factors = factors[0], factors[1:]
    ones = torch.ones_like(student)
    by_teacher = torch.cat([ones[:1], teacher[None], student]).transpose(0, 1)  # [N, 1 + G, D]
    by_teacher = product(by_teacher, teacher_factors).transpose(0, 1)
    by_student = product(torch.stack([ones, student], dim=-2), student_factors)
    sums, student_sums = by_teacher[0], by_student[..., 0, :]  # f: [N, D], [H, N, D]
    averages = by_teacher[1:] / sums  # P'w, P'v
    entropy = scale * teacher * averages[0] - sums.log()
    loss = (entropy + student_sums.log() - scale * student * averages[1:]).sum(dim=(1, 2))
    if not with_gradient:
        return loss, None
    gradient = by_student[..., 1, :] / student_sums - averages[1:]
    gradient += product((student / student_sums)[..., None, :], student_factors)[..., 0, :]
    gradient -= product((student / sums).transpose(0, 1), teacher_factors).transpose(0, 1)
    return loss, gradient
