"""Against scipy, scikit-learn and the formulas written out image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from mldr_deploy.bundle.quality import Answers, quality_of, reliability, wilson
from mldr_deploy.bundle.temperature import HIGHEST, fit_temperature, softmax

LABELS = ["ant", "bee", "cow", "dog"]


def drawn(images: int, sharpness: float, seed: int = 0) -> tuple[Any, Any]:
    """Logits that are calibrated at the temperature ``sharpness``, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (images, len(LABELS)))
    shares = np.exp(log_softmax(logits, axis=1))
    labels = np.array([rng.choice(len(LABELS), p=row) for row in shares])
    return (sharpness * logits).astype(np.float32), labels


def loss(logits: Any, labels: Any, temperature: float) -> float:
    told = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-told[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_is_the_one_that_scipy_finds(sharpness: float) -> None:
    logits, labels = drawn(6000, sharpness)
    ours = fit_temperature(logits, labels)
    bounds = (np.log(0.06), np.log(19))
    theirs = minimize_scalar(
        lambda t: loss(logits, labels, np.exp(t)),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert ours == pytest.approx(np.exp(theirs.x), rel=1e-5)
    assert ours == pytest.approx(sharpness, rel=0.05)  # and it is what made the logits


def test_a_temperature_is_not_fitted_where_nothing_bounds_it() -> None:
    logits, labels = drawn(200, 2.0)
    assert fit_temperature(logits, logits.argmax(axis=1)) == 1.0  # no mistake
    assert fit_temperature(logits[:0], labels[:0]) == 1.0
    assert fit_temperature(np.where(logits > 3, np.nan, logits), labels) == 1.0
    backwards = logits.argmin(axis=1)  # always wrong: the flatter the better
    assert fit_temperature(logits, backwards) == pytest.approx(HIGHEST, rel=1e-6)


def test_softmax_is_scipy_s_and_survives_large_logits() -> None:
    logits, _ = drawn(50, 3.0)
    expected = np.exp(log_softmax(logits.astype(np.float64) / 1.7, axis=1))
    np.testing.assert_allclose(softmax(logits, 1.7), expected, rtol=1e-12)
    assert softmax(np.array([[1e30, 0.0]], np.float32), 0.05).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(("hits", "images"), [(0, 1), (0, 7), (3, 8), (41, 50), (50, 50)])
def test_intervals_are_wilson_s(hits: int, images: int) -> None:
    theirs = binomtest(hits, images).proportion_ci(0.95, "wilson")
    assert wilson(hits, images) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_reliability_is_the_textbook_s() -> None:
    rng = np.random.default_rng(1)
    shares = np.append(rng.uniform(0, 1, 500), [1 / 15, 1.0, 1e-9])
    right = rng.uniform(0, 1, len(shares)) < shares
    bins = reliability(shares, right)
    assert sum(one.images for one in bins) == len(shares)
    for one, low in zip(bins, np.arange(15) / 15, strict=True):  # every bin is met
        inside = (shares > low) & (shares <= low + 1 / 15)
        assert one.images == inside.sum()
        assert one.confidence == pytest.approx(shares[inside].mean())
        assert one.accuracy == pytest.approx(right[inside].mean())


@pytest.fixture(scope="module")
def measured() -> Any:
    logits, labels = drawn(900, 4.0, seed=3)
    answers = Answers(4.0)
    for start in range(0, 900, 250):
        answers.add(logits[start : start + 250], labels[start : start + 250])
    found = quality_of(answers, LABELS, "{}.png".format, fitted_on=50)
    assert found is not None
    return logits, labels, *found


def test_classes_and_pairs_are_the_confusion_matrix(measured: Any) -> None:
    logits, labels, quality, tables = measured
    counts = confusion_matrix(labels, logits.argmax(axis=1))
    assert [one.hits for one in tables.classes] == np.diagonal(counts).tolist()
    assert [one.images for one in tables.classes] == counts.sum(axis=1).tolist()
    pairs = {(pair.label, pair.said): pair.images for pair in tables.confused}
    np.fill_diagonal(counts, 0)
    assert pairs == {(LABELS[a], LABELS[b]): counts[a, b] for a, b in np.argwhere(counts)}
    sizes = [pair.images for pair in tables.confused]
    assert sizes == sorted(sizes, reverse=True) and quality.confused == tables.confused[:10]
    assert [c.top1 for c in quality.weakest] == sorted(c.top1 for c in tables.classes)
    assert quality.top1 == pytest.approx(100 * (logits.argmax(axis=1) == labels).mean())


def test_errors_of_calibration_and_losses(measured: Any) -> None:
    logits, labels, quality, _ = measured
    for trust, temperature in ((quality.plain, 1.0), (quality.calibrated, 4.0)):
        shares = np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1))
        top, right = shares.max(axis=1), shares.argmax(axis=1) == labels
        gaps = 0.0
        for k in range(15):
            inside = (top > k / 15) & (top <= (k + 1) / 15)
            gaps += abs(top[inside].sum() - right[inside].sum())
        assert trust.ece == pytest.approx(gaps / len(labels))
        assert trust.loss == pytest.approx(loss(logits, labels, temperature))
        assert trust.confidence == pytest.approx(top.mean())
    assert quality.calibrated.ece < quality.plain.ece / 3


def test_the_surest_mistakes_are_the_surest(measured: Any) -> None:
    logits, labels, quality, _ = measured
    shares = softmax(logits, 4.0)
    said = logits.argmax(axis=1)
    wrong = [k for k in range(900) if said[k] != labels[k]]
    surest = sorted(wrong, key=lambda k: -shares[k].max())[:12]
    assert [m.index for m in quality.mistakes] == surest
    first = quality.mistakes[0]
    assert first.file == f"{surest[0]}.png" and first.label == LABELS[labels[surest[0]]]
    assert first.said == LABELS[said[surest[0]]]
    assert first.probability == pytest.approx(shares[surest[0]].max())
    assert quality.lines()[-2].startswith(f"Surest mistake: {surest[0]}.png is labelled")


def test_a_class_without_images_and_no_mistake_are_told_as_such() -> None:
    answers = Answers(1.0)
    answers.add(np.eye(4, dtype=np.float32)[:3] * 9, np.arange(3))
    found = quality_of(answers, LABELS, str, fitted_on=0)
    assert found is not None
    assert [one.label for one in found[1].classes] == LABELS[:3]
    assert found[0].confused == [] and found[0].mistakes == []
    assert "uncalibrated" in found[0].lines()[-1] and len(found[0].lines()) == 2
    answers.add(np.array([[np.nan, 0, 0, 0]], np.float32), np.array([0]))
    assert quality_of(answers, LABELS, str, fitted_on=0) is None
