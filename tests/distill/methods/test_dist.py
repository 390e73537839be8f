"""DIST against SciPy's Pearson correlation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import pearsonr, zscore

from mldr_deploy.distill.methods.dist import Dist, DistConfig
from mldr_deploy.models.stages import StageOutput


@pytest.mark.parametrize("standardise", ["none", "sample"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_one_minus_pearsons_correlation_of_rows_and_columns(
    temperature: float, standardise: Literal["none", "sample"], scene: Callable[..., Any]
) -> None:
    made = scene()
    logits = [zscore(z, axis=1) if standardise == "sample" else z for z in made.logits]
    s, t = (softmax(z / temperature, axis=1) for z in logits)
    inter = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(s, t, strict=True)])
    intra = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(s.T, t.T, strict=True)])
    config = DistConfig(temperature=temperature, standardise=standardise, beta=2, gamma=3)
    losses = Dist(config, made.pair)(made.student, made.teacher, made.step)
    assert losses["dist.inter"].item() == pytest.approx(2 * temperature**2 * inter, rel=1e-4)
    assert losses["dist.intra"].item() == pytest.approx(3 * temperature**2 * intra, rel=1e-4)


def test_a_class_that_no_image_tells_apart_gives_no_nan(scene: Callable[..., Any]) -> None:
    made = scene()
    student = torch.zeros_like(made.student.logits, requires_grad=True)
    losses = Dist(DistConfig(), made.pair)(StageOutput(student, ()), made.teacher, made.step)
    sum(losses.values()).backward()
    assert student.grad is not None and student.grad.isfinite().all()
