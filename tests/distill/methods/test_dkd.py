"""DKD against its definition, class by class, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import zscore

from mldr_deploy.distill.methods.dkd import Dkd, DkdConfig
from mldr_deploy.models.stages import StageOutput


@pytest.mark.parametrize("standardise", ["none", "sample"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_definition_image_by_image(
    temperature: float, standardise: Literal["none", "sample"], scene: Callable[..., Any]
) -> None:
    made = scene()
    labels = made.step.labels.numpy()
    target = others = 0.0
    for s, t, y in zip(*made.logits, labels, strict=True):
        if standardise == "sample":
            s, t = zscore(s), zscore(t)
        p, q = softmax(t / temperature), softmax(s / temperature)
        target += rel_entr([p[y], 1 - p[y]], [q[y], 1 - q[y]]).sum() / len(labels)
        rest = np.arange(len(p)) != y
        others += rel_entr(p[rest] / p[rest].sum(), q[rest] / q[rest].sum()).sum() / len(labels)
    config = DkdConfig(temperature=temperature, standardise=standardise, alpha=2, beta=3, warmup=0)
    losses = Dkd(config, made.pair)(made.student, made.teacher, made.step)
    assert losses["dkd.target"].item() == pytest.approx(2 * temperature**2 * target, rel=1e-5)
    assert losses["dkd.others"].item() == pytest.approx(3 * temperature**2 * others, rel=1e-5)


def test_with_the_teachers_own_weight_it_is_kd(scene: Callable[..., Any]) -> None:
    """Equation 7: KD = TCKD + (1 - p_y) NCKD, here for a single image."""
    made = scene()
    s, t, y = made.logits[0][0], made.logits[1][0], int(made.step.labels[0])
    p, q = softmax(t), softmax(s)
    one = replace(made.step, targets=made.step.targets[:1])
    config = DkdConfig(temperature=1, alpha=1, beta=1 - p[y], warmup=0)
    outputs = (StageOutput(x.logits[:1], ()) for x in (made.student, made.teacher))
    losses = Dkd(config, made.pair)(*outputs, one)
    assert sum(losses.values()).item() == pytest.approx(rel_entr(p, q).sum(), rel=1e-5)


def test_a_teacher_that_is_sure_beyond_float_precision_gives_finite_gradients(
    scene: Callable[..., Any],
) -> None:
    made = scene()
    sure = StageOutput(1000 * made.step.targets, ())
    student = (1000 * made.step.targets.roll(1, dims=1)).requires_grad_()
    losses = Dkd(DkdConfig(), made.pair)(StageOutput(student, ()), sure, made.step)
    sum(losses.values()).backward()
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.any()


@pytest.mark.parametrize(("done", "share"), [(0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.9, 1.0)])
def test_warm_up(done: float, share: float, scene: Callable[..., Any]) -> None:
    made = scene()
    at = replace(made.step, done=torch.tensor(done))
    full = Dkd(DkdConfig(warmup=0), made.pair)(made.student, made.teacher, at)
    risen = Dkd(DkdConfig(warmup=0.2), made.pair)(made.student, made.teacher, at)
    for name, value in full.items():
        torch.testing.assert_close(risen[name], share * value)
