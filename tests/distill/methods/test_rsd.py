"""RSD against its formula, entry by entry, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf

from mldr_deploy.distill.methods.rsd import Rsd, RsdConfig, RsdLogits, RsdLogitsConfig
from mldr_deploy.models.stages import StageOutput

Matrix = NDArray[np.float64]


def standard(features: Matrix) -> Matrix:
    return np.stack([(f - f.mean()) / (f.std() + 1e-5) for f in features.T], axis=1)


def redundancy(student: Matrix, teacher: Matrix, kappa: float) -> float:
    s, t, loss = standard(student), standard(teacher), 0.0
    for i in range(t.shape[1]):
        for j in range(s.shape[1]):
            correlation = sum(t[b, i] * s[b, j] for b in range(len(s))) / len(s)
            loss += (correlation - 1) ** 2 if i == j else kappa * correlation**2
    return loss


def adapted(method: Rsd, features: Matrix) -> Matrix:
    """Linear, batch norm with its first weights, GELU, linear."""
    assert method.adapter is not None
    first, last = (method.adapter[k].weight.detach().double().numpy() for k in (0, 3))
    hidden = features @ first.T
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    gelu = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
    product: Matrix = gelu @ last.T
    return product


@pytest.mark.parametrize(("weight", "kappa"), [(0.1, 0.01), (3.0, 0.5)])
def test_equals_the_formula_on_adapted_features(
    weight: float, kappa: float, scene: Callable[..., Any]
) -> None:
    made = scene()
    method = Rsd(RsdConfig(rsd_weight=weight, kappa=kappa), made.pair)
    student, teacher = made.features
    expected = weight * redundancy(adapted(method, student), teacher, kappa)
    losses = method(made.student, made.teacher, made.step)
    assert list(losses) == ["rsd"]
    assert losses["rsd"].item() == pytest.approx(expected, rel=1e-4)


def test_the_adapter_has_twice_the_width_inside_and_no_biases(scene: Callable[..., Any]) -> None:
    made = scene()
    method = Rsd(RsdConfig(), made.pair)
    width, teacher_width = (x.shape[1] for x in made.features)
    shapes = {name: tuple(p.shape) for name, p in method.named_parameters() if p.ndim == 2}
    assert shapes == {
        "adapter.0.weight": (2 * width, width),
        "adapter.3.weight": (teacher_width, 2 * width),
    }
    assert not {"adapter.0.bias", "adapter.3.bias"} & {n for n, _ in method.named_parameters()}


def test_equals_the_formula_on_logits(scene: Callable[..., Any]) -> None:
    made = scene()
    method = RsdLogits(RsdLogitsConfig(rsd_weight=2, kappa=0.3), made.pair)
    assert not list(method.parameters())
    losses = method(made.student, made.teacher, made.step)
    assert losses["rsd"].item() == pytest.approx(2 * redundancy(*made.logits, 0.3), rel=1e-4)


def test_a_constant_feature_gives_a_finite_gradient(scene: Callable[..., Any]) -> None:
    made = scene()
    student = torch.ones_like(made.student.logits, requires_grad=True)
    teacher = replace(made.teacher, logits=torch.zeros_like(made.teacher.logits))
    RsdLogits(RsdLogitsConfig(), made.pair)(StageOutput(student, ()), teacher, made.step)[
        "rsd"
    ].backward()
    assert student.grad is not None and student.grad.isfinite().all()
