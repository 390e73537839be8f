"""Hinton's KD against its closed form in SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import zscore

from mldr_deploy.distill.methods.base import Pair, Step
from mldr_deploy.distill.methods.kd import Kd, KdConfig
from mldr_deploy.models.stages import StageOutput, StagePlan

PAIR = Pair(7, StagePlan((), (), "map", 0, 1, 1), None)
STEP = Step(torch.eye(7)[:6], torch.arange(6), torch.tensor(0.0))


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (4.0, 1.0), (2.5, 0.3)])
def test_equals_the_softened_divergence_times_the_temperature_squared(
    temperature: float, weight: float
) -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 3, (2, 6, 7)).astype(np.float32)
    p, q = (softmax(logits.astype(float) / temperature, axis=1) for logits in (teacher, student))
    expected = weight * temperature**2 * rel_entr(p, q).sum() / len(p)
    method = Kd(KdConfig(temperature=temperature, kd_weight=weight), PAIR)
    losses = method(*(StageOutput(torch.from_numpy(x), ()) for x in (student, teacher)), STEP)
    assert list(losses) == ["kd"]
    assert losses["kd"].item() == pytest.approx(expected, rel=1e-5)


def test_has_nothing_to_train_and_weighs_the_labels() -> None:
    method = Kd(KdConfig(label_weight=0.1), PAIR)
    assert not list(method.parameters())
    assert method.label_weight == 0.1


def test_standardised_logits_have_mean_0_and_deviation_1_before_the_temperature() -> None:
    """Sun et al., equation 11, in SciPy."""
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(2, 3, (2, 6, 7)).astype(np.float32)
    p, q = (softmax(zscore(x.astype(float), axis=1) / 2, axis=1) for x in (teacher, student))
    expected = 9 * 2**2 * rel_entr(p, q).sum() / len(p)
    method = Kd(KdConfig(temperature=2, standardise="sample", kd_weight=9), PAIR)
    losses = method(*(StageOutput(torch.from_numpy(x), ()) for x in (student, teacher)), STEP)
    assert losses["kd"].item() == pytest.approx(expected, rel=1e-5)
