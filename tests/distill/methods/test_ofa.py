"""OFA-KD against its sum over classes, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from mldr_deploy.distill.methods.ofa import Ofa, OfaConfig


def ofa_loss(
    s: NDArray[np.float64], t: NDArray[np.float64], labels: list[int], gamma: float, T: float
) -> float:
    total = 0.0
    for student, teacher, y in zip(s, t, labels, strict=True):
        p, log_q = softmax(teacher / T), log_softmax(student / T)
        for c in range(len(p)):
            weight = (1 + p[c]) ** gamma - 1 if c == y else p[c] ** gamma
            total -= weight * log_q[c] / len(s)
    return total


@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (1.4, 1.0), (2.0, 3.0)])
@pytest.mark.parametrize("layout", ["map", "token"])
def test_equals_the_sum_over_classes_on_the_logits_and_every_stages_head(
    gamma: float, temperature: float, layout: str, scene: Callable[..., Any]
) -> None:
    made = scene(student=layout)
    config = OfaConfig(gamma=gamma, temperature=temperature, logits_weight=2, stage_weight=3)
    method = Ofa(config, made.pair).eval()
    losses = method(made.student, made.teacher, made.step)
    (s, t), labels = made.logits, made.step.labels.tolist()
    expected = 2 * ofa_loss(s, t, labels, gamma, temperature)
    assert losses["ofa.logits"].item() == pytest.approx(expected, rel=1e-5)
    heads = [
        projector(stage).logits.detach().double().numpy()
        for projector, stage in zip(method.projectors, made.student.stages, strict=True)
    ]
    expected = 3 * sum(ofa_loss(z, t, labels, gamma, temperature) for z in heads)
    assert losses["ofa.stages"].item() == pytest.approx(expected, rel=1e-5)


def test_gamma_1_is_the_cross_entropy_with_the_teacher(scene: Callable[..., Any]) -> None:
    made = scene()
    losses = Ofa(OfaConfig(stage_weight=0), made.pair)(made.student, made.teacher, made.step)
    s, t = made.logits
    expected = -(softmax(t, axis=1) * log_softmax(s, axis=1)).sum(axis=1).mean()
    assert losses["ofa.logits"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("layout", "width"), [("map", 48), ("token", 32)])
def test_heads_are_as_wide_as_the_authors(
    layout: str, width: int, scene: Callable[..., Any]
) -> None:
    """Student 32 and teacher 48 wide: maps take the larger, tokens keep the student's."""
    method = Ofa(OfaConfig(), scene(student=layout).pair)
    assert {p.classifier.in_features for p in method.projectors} == {width}
