"""DFRA: decoupled fine-grained relation alignment of logits (arXiv 2502.06189, section 3.2).

The paper compares softmaxes of outer products, [B, C, C] between the classes of every sample and
[C, B, B] between the samples of every class; `relations.py` has their divergence without either.

Shapes: B batch, C classes, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .relations import relation_divergence


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
