"""RKD against its definition over pairs and triples, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.special import huber

from mldr_deploy.distill.methods.rkd import Rkd, RkdConfig


def distances(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return squareform(pdist(x) / pdist(x).mean())


def angle(x: NDArray[np.float64], i: int, j: int, k: int) -> float:
    a, b = x[i] - x[j], x[k] - x[j]
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / scale) if scale else 0.0


def test_equals_the_mean_over_pairs_and_triples(scene: Callable[..., Any]) -> None:
    made = scene()
    s, t = made.features
    losses = Rkd(RkdConfig(), made.pair)(made.student, made.teacher, made.step)
    expected = 25 * huber(1, distances(s) - distances(t)).mean()
    assert losses["rkd.distance"].item() == pytest.approx(expected, rel=1e-4)
    triples = list(product(range(len(s)), repeat=3))
    expected = 50 * np.mean([huber(1, angle(s, *ijk) - angle(t, *ijk)) for ijk in triples])
    assert losses["rkd.angle"].item() == pytest.approx(expected, rel=1e-4)


def test_knows_neither_place_nor_scale_nor_direction(scene: Callable[..., Any]) -> None:
    """A teacher that is the student moved far away, turned and enlarged asks for nothing."""
    made = scene(teacher="map")
    x = made.student.features.detach()
    turn = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1])).Q
    teacher = replace(made.teacher, features=30 * x @ turn + 100)
    losses = Rkd(RkdConfig(), made.pair)(made.student, teacher, made.step)
    assert sum(losses.values()).item() < 1e-5


def test_two_images_with_the_same_features_give_finite_gradients(
    scene: Callable[..., Any],
) -> None:
    made = scene()
    x = torch.ones_like(made.student.features)
    x[:3] = made.student.features[:3].detach()
    x.requires_grad_()
    method = Rkd(RkdConfig(), made.pair)
    losses = method(replace(made.student, features=x), made.teacher, made.step)
    sum(losses.values()).backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()
