"""DFRA: decoupled fine-grained relation alignment of logits (arXiv 2502.06189, section 3.2).

The paper compares softmaxes of outer products, [B, C, C] between the classes of every sample
and [C, B, B] between the samples of every class. Those matrices have rank one, and the
divergence of column j of one of them is, with v and w the student's and the teacher's vector of
length D and k = 1 / sqrt(C),

    KL_j = sum_i p_ij k (w_i w_j - v_i v_j) - LSE_i(k w_i w_j) + LSE_i(k v_i v_j),
    p_ij = softmax_i(k w_i w_j),

whose sum over j has the gradient k (Q v + Q' v - P v - P' v), Q being the student's p. So a pass
over blocks of columns yields the loss *and* its gradient from one exponential per element: the
relations never exist whole, nothing is saved for the backward pass but the gradient itself, and
every head of a step reads the same teacher block.

Shapes: B batch, C classes, H heads, N vectors of length D (N = B, D = C between classes; N = C,
D = B between samples), J columns of a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Elements of one block. On a CPU (4 MiB in float32) small enough for the cache and large enough to
# be worth its calls; a GPU wants few, large launches. A step's memory is a small multiple of it.
_BLOCK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 24}


@dataclass(frozen=True)
class DfraTerms:
    """The parts of one DFRA loss, each a scalar tensor, and alpha, the weight of the last."""

    class_relation: Tensor  # []  mean over samples and columns
    sample_relation: Tensor  # []  mean over classes and columns
    probability: Tensor  # []  mean over samples; no T^2 factor
    alpha: float = 2.0

    @property
    def total(self) -> Tensor:
        """class_relation + sample_relation + alpha * probability."""
        return self.class_relation + self.sample_relation + self.alpha * self.probability


def dfra_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    alpha: float = 2.0,
) -> DfraTerms:
    """DFRA of one head: student [B, C] against teacher [B, C]; the teacher gets no gradient.

    Half-precision logits are raised to float32; float64 stays float64. Raises ValueError when
    the shapes differ or the temperature is not positive.
    """
    return dfra_losses([student_logits], teacher_logits, temperature=temperature, alpha=alpha)[0]


def dfra_losses(
    student_logits: Sequence[Tensor],
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    alpha: float = 2.0,
    sample_student_logits: Sequence[Tensor] | None = None,
    sample_teacher_logits: Tensor | None = None,
) -> list[DfraTerms]:
    """DFRA of several student heads against one teacher, whose side is computed once.

    Args:
        student_logits: H tensors [B, C].
        teacher_logits: [B, C].
        temperature: T, divides both sides.
        alpha: weight of the probability term in `DfraTerms.total`.
        sample_student_logits: H tensors [G, C] when the relations between samples span a batch
            gathered from several processes; the local batch otherwise.
        sample_teacher_logits: [G, C], the teacher's side of the same.

    Raises:
        ValueError: on shapes that differ or a temperature that is not positive.
    """
    _check(student_logits, teacher_logits, temperature)
    wide = (sample_student_logits or student_logits, sample_teacher_logits)
    with torch.autocast(teacher_logits.device.type, enabled=False):
        student, teacher = _heads(student_logits, temperature), _raise(teacher_logits, temperature)
        if wide[1] is None:
            across, across_teacher = student, teacher
        else:
            across, across_teacher = _heads(wide[0], temperature), _raise(wide[1], temperature)
        scale = 1.0 / math.sqrt(teacher.shape[-1])
        class_relation = relation_divergence(student, teacher, scale)
        sample_relation = relation_divergence(across.mT, across_teacher.mT, scale)
        probability = _probability(student, teacher)
    parts = zip(class_relation, sample_relation, probability, strict=True)
    return [DfraTerms(c, s, p, alpha) for c, s, p in parts]


def relation_divergence(student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """Mean KL between the column softmaxes of scale * w w' (teacher) and scale * v v' (student).

    Args:
        student: [H, N, D], N vectors v a head.
        teacher: [N, D], the vectors w, taken as constants.
        scale: k of the module's formula.

    Returns:
        [H], mean over the N vectors and their D columns.
    """
    result: Tensor = _RelationDivergence.apply(student, teacher.detach(), scale)
    return result


def _check(students: Sequence[Tensor], teacher: Tensor, temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(f"DFRA: temperature must be positive, not {temperature}")
    for logits in students:
        if logits.shape != teacher.shape or logits.ndim != 2:
            raise ValueError(
                f"DFRA: student logits {tuple(logits.shape)} and teacher logits "
                f"{tuple(teacher.shape)} must both be [batch, classes]"
            )


def _raise(logits: Tensor, temperature: float) -> Tensor:
    """Logits / T as float32, or float64 where they are float64, without their gradient."""
    logits = logits.detach()
    return (logits if logits.dtype == torch.float64 else logits.float()) / temperature


def _heads(logits: Sequence[Tensor], temperature: float) -> Tensor:
    stacked = torch.stack(list(logits))  # [H, B, C]
    return (stacked if stacked.dtype == torch.float64 else stacked.float()) / temperature


def _probability(student: Tensor, teacher: Tensor) -> Tensor:
    """(1/B) sum_b KL(softmax(t_b) || softmax(s_b)) for every head: [H, B, C], [B, C] -> [H]."""
    target = F.log_softmax(teacher, dim=-1)
    difference = target - F.log_softmax(student, dim=-1)
    return (target.exp() * difference).sum(dim=-1).mean(dim=-1)


class _RelationDivergence(torch.autograd.Function):
    """The blocked pass of the module's docstring; the gradient is made with the loss."""

    @staticmethod
    def forward(ctx: FunctionCtx, student: Tensor, teacher: Tensor, scale: float) -> Tensor:
        wanted = student.requires_grad
        student, teacher = student.detach(), teacher.contiguous()
        heads, vectors, length = student.shape
        loss = student.new_zeros(heads)
        gradient = torch.empty_like(student) if wanted else None
        block = _BLOCK_ELEMENTS.get(student.device.type, 1 << 20)
        rows = max(1, block // (length * length))
        columns = min(length, max(1, block // length))
        for start in range(0, vectors, rows):
            part = student[:, start : start + rows].contiguous()
            value, slope = _divergence(part, teacher[start : start + rows], scale, columns, wanted)
            loss += value
            if gradient is not None and slope is not None:
                gradient[:, start : start + rows] = slope
        mean = 1.0 / (vectors * length)
        if gradient is not None:
            ctx.save_for_backward(gradient.mul_(scale * mean))
        return loss.mul_(mean)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * upstream[:, None, None], None, None


def _divergence(
    student: Tensor, teacher: Tensor, scale: float, columns: int, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Sum of KL_j over a block of vectors, and (Q v + Q' v - P v - P' v) when it is wanted.

    student [H, N, D], teacher [N, D] -> [H], [H, N, D].
    """
    heads, _, length = student.shape
    stacked = student.transpose(0, 1)  # [N, H, D]
    loss = student.new_zeros(heads)
    gradient = torch.zeros_like(student) if wanted else None
    for first in range(0, length, columns):
        window = slice(first, first + columns)
        weights, total, log_total = _column_exponentials(teacher, window, scale)  # [N, J, D]
        ones = teacher.new_ones(teacher.shape[0], 1, length)
        averages = torch.bmm(weights, torch.cat([teacher[:, None], stacked, ones], 1).mT)
        averages = (averages[..., :-1] / total).permute(2, 0, 1)  # P'w, P'v: [1 + H, N, J]
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
                gradient[head, :, window] += torch.bmm(weights, v[..., None]).div_(total)[..., 0]
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
