"""CC against its Taylor series, and against the Gaussian kernel that the series tends to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mldr_deploy.distill.methods.cc import Cc, CcConfig


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_equals_the_series_of_the_paper(scene: Callable[..., Any]) -> None:
    made = scene()
    kernels = []
    for x in map(unit, made.features):
        cosine = x @ x.T
        terms = [math.exp(-0.8) * 0.8**p / math.factorial(p) * cosine**p for p in range(3)]
        kernels.append(sum(terms))
    expected = 100 * np.mean((kernels[0] - kernels[1]) ** 2)
    losses = Cc(CcConfig(), made.pair)(made.student, made.teacher, made.step)
    assert losses["cc"].item() == pytest.approx(expected, rel=1e-4)


def test_tends_to_the_gaussian_kernel(scene: Callable[..., Any]) -> None:
    made = scene()
    s, t = (np.exp(-0.4 * cdist(x, x, "sqeuclidean")) for x in map(unit, made.features))
    config = CcConfig(order=8, correlation_weight=1)
    losses = Cc(config, made.pair)(made.student, made.teacher, made.step)
    assert losses["cc"].item() == pytest.approx(np.mean((s - t) ** 2), rel=1e-3)
