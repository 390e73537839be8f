"""Standardised logits, and DFRA on them, against plain loops in float64."""

from __future__ import annotations

from itertools import product
from math import exp, log, sqrt
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mldr_deploy.distill.dfra import DfraForm, Standardise, dfra_loss
from mldr_deploy.distill.softening import soften

Matrix = NDArray[np.float64]
EPSILON = 1e-6


def z_score(values: Any, temperature: float) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return [(value - mean) / sqrt(variance + EPSILON) / temperature for value in values]


def divergence(teacher: Any, student: Any) -> float:
    """KL of the softmaxes of two lists."""
    lse = [log(sum(exp(value) for value in values)) for values in (teacher, student)]
    return sum(
        exp(t - lse[0]) * ((t - lse[0]) - (s - lse[1]))
        for t, s in zip(teacher, student, strict=True)
    )


def relations(teacher: Any, student: Any, classes: int) -> float:
    """Mean over all vectors and columns."""
    columns = [
        divergence(
            [w[i] * w[j] / sqrt(classes) for i in range(len(w))],
            [v[i] * v[j] / sqrt(classes) for i in range(len(v))],
        )
        for w, v in zip(teacher, student, strict=True)
        for j in range(len(w))
    ]
    return sum(columns) / len(columns)


def by_loops(student: Matrix, teacher: Matrix, form: DfraForm) -> dict[str, float]:
    """The three terms, unweighted."""
    classes = student.shape[1]
    if form.standardise == "none":
        rows = [[list(row / form.temperature) for row in z] for z in (teacher, student)]
    else:
        rows = [[z_score(row, form.temperature) for row in z] for z in (teacher, student)]
    if form.standardise == "axis":
        columns = [
            [z_score(column, form.temperature) for column in z.T] for z in (teacher, student)
        ]
    else:
        columns = [list(np.array(z).T) for z in rows]
    images = [divergence(t, s) for t, s in zip(*rows, strict=True)]
    return {
        "class_relation": relations(*rows, classes),
        "sample_relation": relations(*columns, classes),
        "probability": sum(images) / len(images),
    }


def pair(batch: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0.5, 1.5, (2, batch, classes))
    return torch.tensor(student, requires_grad=True), torch.tensor(teacher)


@pytest.mark.parametrize(("batch", "classes"), [(4, 3), (3, 5), (1, 2)])
@pytest.mark.parametrize("standardise", get_args(Standardise))
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_dfra_equals_plain_loops_with_every_form(
    batch: int, classes: int, standardise: Standardise, temperature: float
) -> None:
    """Values to 1e-9, and gradients against central differences of the loops."""
    form = DfraForm(temperature, standardise, class_weight=0.5, sample_weight=3.0, alpha=1.5)
    student, teacher = pair(batch, classes)
    terms = dfra_loss(student, teacher, form)

    def total(logits: Matrix) -> float:
        expected = by_loops(logits, teacher.numpy(), form)
        return (
            0.5 * expected["class_relation"]
            + 3.0 * expected["sample_relation"]
            + 1.5 * expected["probability"]
        )

    logits = student.detach().numpy()
    for name, value in by_loops(logits, teacher.numpy(), form).items():
        assert getattr(terms, name).item() == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert terms.total.item() == pytest.approx(total(logits), rel=1e-9)
    (gradient,) = torch.autograd.grad(terms.total, student)
    for place in product(range(batch), range(classes)):
        step = np.zeros_like(logits)
        step[place] = 1e-5
        slope = (total(logits + step) - total(logits - step)) / 2e-5
        assert gradient[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("standardise", ["sample", "axis"])
def test_size_of_the_logits_does_not_matter_to_a_standardised_dfra(
    standardise: Standardise,
) -> None:
    """A thousand times the logits: the same loss, and a gradient that shrinks accordingly."""
    form = DfraForm(standardise=standardise)
    student, teacher = pair(6, 8)
    small = dfra_loss(student, teacher, form).total
    large = dfra_loss(1000 * student, 5000 * teacher + 3, form).total
    assert large.item() == pytest.approx(small.item(), rel=1e-5)
    huge = (1e4 * student.detach().float()).requires_grad_()
    (gradient,) = torch.autograd.grad(dfra_loss(huge, teacher.float(), form).total, huge)
    assert gradient.isfinite().all() and gradient.abs().max() < 1e-3


@pytest.mark.parametrize("standardise", ["sample", "axis"])
def test_constant_logits_have_a_finite_gradient(standardise: Standardise) -> None:
    student = torch.zeros(6, 8, requires_grad=True)
    dfra_loss(student, pair(6, 8)[1].float(), DfraForm(standardise=standardise)).total.backward()
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.any()


def test_a_weight_of_0_leaves_its_term_out() -> None:
    student, teacher = pair(4, 3)
    whole = dfra_loss(student, teacher)
    assert whole.probability is not None
    alone = dfra_loss(student, teacher, DfraForm(class_weight=0, sample_weight=0, alpha=3))
    assert alone.class_relation is None and alone.sample_relation is None
    assert list(alone.weighted) == ["probability"]
    torch.testing.assert_close(alone.total, 3 * whole.probability)
    assert "probability" not in dfra_loss(student, teacher, DfraForm(alpha=0)).weighted


def test_soften_raises_half_precision_and_keeps_float64() -> None:
    logits = torch.tensor([[1.0, 3.0, 8.0]])
    assert soften(logits.bfloat16(), 2.0).dtype == torch.float32
    assert soften(logits.double(), 2.0).dtype == torch.float64
    expected = torch.tensor([z_score([1.0, 3.0, 8.0], 2.0)])
    torch.testing.assert_close(soften(logits, 2.0, standardise=1), expected)
