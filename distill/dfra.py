"""DFRA: decoupled fine-grained relation alignment of logits (arXiv 2502.06189, section 3.2).

The paper compares softmaxes of outer products, [B, C, C] between the classes of every sample and
[C, B, B] between the samples of every class; `relations.py` has their divergence without either.

A relation R = z z' / sqrt(C) has the size of its logits squared, and is even: R(z) = R(-z). So the
gradient of small logits is nearly none, and that of large ones has no bound. With standardised
logits (`softening.py`), which the paper does not have, both sides are of size 1 throughout.

Shapes: B batch, C classes, H heads, G samples gathered from all processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .relations import relation_divergence
from .softening import soften

Standardise = Literal["none", "sample", "axis"]


@dataclass(frozen=True)
class DfraForm:
    """What is compared, and what each term counts; the defaults are the published form.

    Raises ValueError for a temperature that is not positive.
    """

    temperature: float = 1.0  # divides both sides
    standardise: Standardise = "none"  # `sample`: over the classes; `axis`: see `_columns`
    class_weight: float = 1.0
    sample_weight: float = 1.0
    alpha: float = 2.0  # the probability term's weight, by its name in the paper

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"DFRA: temperature must be positive, not {self.temperature}")

    @property
    def empty(self) -> bool:
        """Whether every term is off."""
        return not (self.class_weight or self.sample_weight or self.alpha)


PUBLISHED = DfraForm()


@dataclass(frozen=True)
class DfraTerms:
    """The terms of one DFRA loss, each a scalar tensor, None where its weight is 0."""

    form: DfraForm
    class_relation: Tensor | None  # []  mean over samples and columns
    sample_relation: Tensor | None  # []  mean over classes and columns
    probability: Tensor | None  # []  mean over samples; no T^2 factor

    @property
    def weighted(self) -> dict[str, Tensor]:
        """The terms that are not off, by name, times their weights."""
        terms = {
            "class": (self.class_relation, self.form.class_weight),
            "sample": (self.sample_relation, self.form.sample_weight),
            "probability": (self.probability, self.form.alpha),
        }
        return {name: weight * term for name, (term, weight) in terms.items() if term is not None}

    @property
    def total(self) -> Tensor:
        """Their sum. Raises RuntimeError where every term is off."""
        return torch.stack(list(self.weighted.values())).sum()


class GlobalBatch(NamedTuple):
    """The logits of all processes' batches, for relations between samples that span them."""

    students: Sequence[Tensor]  # H tensors [G, C]
    teacher: Tensor  # [G, C]


def dfra_loss(
    student_logits: Tensor, teacher_logits: Tensor, form: DfraForm = PUBLISHED
) -> DfraTerms:
    """DFRA of one head: student [B, C] against teacher [B, C]; the teacher gets no gradient.

    Half-precision logits are raised to float32; float64 stays float64. Raises ValueError when
    the shapes differ.
    """
    return dfra_losses([student_logits], teacher_logits, form)[0]


def dfra_losses(
    student_logits: Sequence[Tensor],
    teacher_logits: Tensor,
    form: DfraForm = PUBLISHED,
    global_batch: GlobalBatch | None = None,
) -> list[DfraTerms]:
    """DFRA of several student heads against one teacher, whose side is computed once.

    Args:
        student_logits: H tensors [B, C].
        teacher_logits: [B, C].
        form: what is compared.
        global_batch: what the relations between samples span; None: the batch itself.

    Raises:
        ValueError: on shapes that differ.
    """
    across = global_batch or GlobalBatch(student_logits, teacher_logits)
    _check(student_logits, teacher_logits)
    _check(*across)
    scale = 1.0 / math.sqrt(teacher_logits.shape[-1])
    with torch.autocast(teacher_logits.device.type, enabled=False):
        student, teacher = _rows(_stack(student_logits), form), _rows(teacher_logits.detach(), form)
        parts: list[Tensor | None] = [None, None, None]  # [H] each
        if form.class_weight:
            parts[0] = relation_divergence(student, teacher, scale)
        if form.sample_weight:
            sides = student.mT, teacher.mT
            if global_batch is not None or form.standardise == "axis":
                heads, answers = _stack(across.students), across.teacher.detach()
                sides = _columns(heads, form), _columns(answers, form)
            parts[1] = relation_divergence(*sides, scale)
        if form.alpha:
            parts[2] = _probability(student, teacher)
    return [
        DfraTerms(form, *(None if part is None else part[head] for part in parts))
        for head in range(len(student_logits))
    ]


def _check(students: Sequence[Tensor], teacher: Tensor) -> None:
    for logits in students:
        if logits.shape != teacher.shape or logits.ndim != 2:
            raise ValueError(
                f"DFRA: student logits {tuple(logits.shape)} and teacher logits "
                f"{tuple(teacher.shape)} must both be [batch, classes]"
            )


def _stack(logits: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(logits))  # [H, B, C]


def _rows(logits: Tensor, form: DfraForm) -> Tensor:
    """What the relations between classes and the probabilities are of: [..., B, C], same shape."""
    axis = None if form.standardise == "none" else -1
    return soften(logits, form.temperature, standardise=axis)


def _columns(logits: Tensor, form: DfraForm) -> Tensor:
    """What the relations between samples are of: [..., G, C] -> [..., C, G].

    With `axis` every class's logits are standardised over the samples; else they are the rows'.
    """
    if form.standardise == "axis":
        return soften(logits, form.temperature, standardise=-2).mT
    return _rows(logits, form).mT


def _probability(student: Tensor, teacher: Tensor) -> Tensor:
    """(1/B) sum_b KL(softmax(t_b) || softmax(s_b)) for every head: [H, B, C], [B, C] -> [H]."""
    target = F.log_softmax(teacher, dim=-1)
    difference = target - F.log_softmax(student, dim=-1)
    return (target.exp() * difference).sum(dim=-1).mean(dim=-1)
