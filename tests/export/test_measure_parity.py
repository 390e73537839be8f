"""The measures against scipy and scikit-learn, the gates one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import top_k_accuracy_score

from mldr_deploy.bundle.parity import Gate, ParityResult
from mldr_deploy.bundle.precisions import PRECISIONS
from mldr_deploy.errors import MldrError
from mldr_deploy.export.gates import Gates
from mldr_deploy.export.measure_parity import measure
from mldr_deploy.runtimes.runtime import RunError

LOOSE = Gate()
FP32 = Gates().fp32.model_copy(update={"max_relative": None})


class Table:
    """A runner that looks its logits up: the input's first pixel is the image's number."""

    def __init__(self, logits: Any, refuses: tuple[int, ...] = ()) -> None:
        self.logits, self.refuses = np.asarray(logits, np.float32), refuses

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, inputs: Any) -> Any:
        if len(inputs) in self.refuses:
            raise RunError(f"does not run on a batch of {len(inputs)}")
        return self.logits[inputs[:, 0, 0, 0].astype(int)]


def compare(
    reference: Any, artifact: Any, labels: Any = None, gate: Gate = LOOSE, batch: int = 32
) -> ParityResult:
    ours = Table(reference)
    theirs = artifact if isinstance(artifact, Table) else Table(artifact)
    n = len(ours.logits)
    truth = np.zeros(n, np.int64) if labels is None else np.asarray(labels, np.int64)

    def batches() -> Iterator[tuple[Any, Any]]:
        for start in range(0, n, batch):
            rows = np.arange(start, min(start + batch, n))
            inputs = np.zeros((len(rows), 3, 1, 1), np.float32)
            inputs[:, 0, 0, 0] = rows
            yield inputs, truth[rows]

    return measure(ours, theirs, batches(), samples=n, precision="fp32", gate=gate, max_batch=batch)


def logits(n: int = 333, classes: int = 12, scale: float = 3, seed: int = 0) -> Any:
    return (scale * np.random.default_rng(seed).standard_normal((n, classes))).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 32, 333, 1000])
@pytest.mark.parametrize("classes", [3, 12])
def test_measures_equal_the_libraries(batch: int, classes: int) -> None:
    ours = logits(classes=classes)
    theirs = ours + logits(classes=classes, scale=0.8, seed=1)
    labels = np.random.default_rng(2).integers(0, classes, len(ours))
    result = compare(ours, theirs, labels, batch=batch)
    for accuracy, x in ((result.reference, ours), (result.artifact, theirs)):
        for k, value in ((1, accuracy.top1), (5, accuracy.top5)):
            if k < classes:
                expected = top_k_accuracy_score(labels, x, k=k, labels=range(classes))
                assert value == pytest.approx(100 * expected)
            else:
                assert value == 100
    right, also = ours.argmax(1) == labels, theirs.argmax(1) == labels
    assert result.lost == (right & ~also).sum() and result.gained == (~right & also).sum()
    assert result.drop == pytest.approx(100 * (right.mean() - also.mean()))
    assert result.disagreements == (ours.argmax(1) != theirs.argmax(1)).sum() > 0
    difference = np.abs(ours - theirs)
    assert result.max_dlogit == difference.max()
    assert result.p99_dlogit == np.quantile(difference, 0.99, method="inverted_cdf")
    assert result.worst_index == difference.max(1).argmax()
    p, q = softmax(ours.astype(float), axis=1), softmax(theirs.astype(float), axis=1)
    assert result.mean_kl == pytest.approx(entropy(p, q, axis=1).mean(), rel=1e-9)
    assert [check.batch for check in result.batches] == [1, 2, batch]
    assert result.batches[0].max_dlogit == difference[0].max()


def test_identical_logits_pass_the_strictest_gate() -> None:
    result = compare(logits(), logits(), gate=Gate(min_agreement=100, max_dlogit=0, max_drop=0))
    assert result
    assert (result.mean_kl, result.max_dlogit, result.mcnemar_p) == (0, 0, 1)


def test_the_needed_gate_passes_and_anything_tighter_fails() -> None:
    ours, labels = logits(), logits().argmax(1)
    theirs = ours + logits(scale=0.5, seed=1)
    needed = compare(ours, theirs, labels).needed.model_copy(update={"significance": 0.5})
    assert compare(ours, theirs, labels, needed)
    assert needed.max_dlogit is not None and needed.max_drop is not None
    assert needed.min_agreement is not None and needed.max_drop > 0
    for tighter in (
        {"max_dlogit": needed.max_dlogit * 0.999},
        {"max_drop": needed.max_drop * 0.999},
        {"min_agreement": needed.min_agreement + 0.01, "max_dlogit": None},
    ):
        assert not compare(ours, theirs, labels, needed.model_copy(update=tighter))


def test_a_swap_within_the_tolerance_is_a_tie_and_reported_apart() -> None:
    # A gap of 0.0015 closes when both logits move by 0.0008, which 1e-3 allows.
    ours = np.array([[1.0, 1.0015, 0], [2, 0, 0]])
    theirs = np.array([[1.0008, 1.0007, 0], [2, 0, 0]])
    result = compare(ours, theirs, gate=FP32)
    assert result
    assert (result.disagreements, result.ties, result.agreement) == (1, 1, 100)


def test_a_large_difference_does_not_make_its_own_swaps_ties() -> None:
    # Twice the measured difference would excuse every swap; twice the gate's does not.
    result = compare([[1.0, 0], [2, 0]], [[0, 1.0], [2, 0]], gate=FP32)
    assert (result.disagreements, result.ties, result.agreement) == (1, 0, 50)
    assert result.failures == ["agreement 50.000 % is below 100 %", "|dlogit| 1 is above 0.001"]


@pytest.mark.parametrize("largest", [0.2, 20.0])
def test_drift_is_judged_by_the_size_of_the_logits(largest: float) -> None:
    ours = logits()
    ours *= largest / np.abs(ours).max()
    theirs = ours.copy()
    theirs[7, 3] += 1e-4 * largest
    gate = Gates().fp32.model_copy(update={"max_dlogit": None, "min_agreement": None})
    (failure,) = compare(ours, theirs, gate=gate).failures
    assert "is 0.0001 of the largest logit, above 5e-05" in failure
    theirs[7, 3] = ours[7, 3] + 1e-5 * largest
    assert compare(ours, theirs, gate=gate)


def test_a_gap_between_other_classes_is_no_excuse() -> None:
    # The student's two best are close, but the artifact names a third one.
    ours, theirs = [[1.0, 1.0001, 0.5]], [[1.0, 1.0001, 1.5]]
    assert compare(ours, theirs, gate=FP32).ties == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_logit_fails_every_gate(value: float) -> None:
    ours = logits()
    theirs = ours.copy()
    theirs[200, 3] = value
    result = compare(ours, theirs, ours.argmax(1), gate=LOOSE)
    assert not result
    assert result.failures == ["1 logits are NaN or infinite"]
    assert (result.nonfinite, result.worst_index, result.lost) == (1, 200, 1)
    assert result.max_dlogit == 0  # of the finite ones
    ParityResult.model_validate_json(result.model_dump_json())


def test_nothing_but_nan() -> None:
    result = compare(logits(), np.full((333, 12), np.nan))
    assert result.artifact.top1 == result.artifact.top5 == 0
    assert result.failures[-1] == f"{333 * 12} logits are NaN or infinite"


def test_a_student_that_gives_nan_itself() -> None:
    ours = logits()
    ours[5] = np.nan
    result = compare(ours, ours)
    assert "12 logits of the PyTorch student itself are NaN or infinite" in result.failures


def test_a_drop_is_a_regression_only_when_it_is_significant() -> None:
    gate = Gate(max_drop=0.2)
    labels = np.zeros(500, int)
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    ours = np.array([right] * 500)
    noise = np.array([wrong] * 4 + [right] * 496)  # 0.8 points, p = 0.125
    real = np.array([wrong] * 8 + [right] * 492)  # 1.6 points, p = 0.008
    assert compare(ours, noise, labels, gate)
    failed = compare(ours, real, labels, gate)
    assert failed.failures == ["top-1 drop 1.60 points is above 0.2 (McNemar p 0.0078)"]
    assert compare(real, ours, labels, gate)  # better is never worse


@pytest.mark.parametrize(
    ("images", "lost", "gained", "drop", "verdict"),
    [
        (8, 5, 0, "62.50", "in doubt"),  # p = 0.0625: no loss of five images is ever significant
        (30, 5, 0, "16.67", "in doubt"),
        (30, 6, 0, None, "failed"),
        (150, 1, 0, None, "passed"),  # within the limit
        (150, 2, 0, "1.33", "in doubt"),  # three points are four images
        (300, 4, 0, "1.33", "passed"),  # three points are nine, which would be significant
        (300, 18, 9, "3.00", "in doubt"),  # but not beside nine gained
        (3000, 231, 200, "1.03", "passed"),
        (3000, 90, 30, None, "failed"),
    ],
)
def test_a_drop_that_few_images_cannot_tell_is_in_doubt(
    images: int, lost: int, gained: int, drop: str | None, verdict: str
) -> None:
    gate = Gate(**PRECISIONS["int8"].gate)
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    level = [right] * (images - lost - gained)
    ours = np.array([right] * lost + [wrong] * gained + level)
    theirs = np.array([wrong] * lost + [right] * gained + level)
    result = compare(ours, theirs, np.zeros(images, int), gate)
    assert result.verdict == verdict and bool(result) is (verdict != "failed")
    told = f"  drop {drop} points: {images} images cannot tell it from chance"
    assert (told in str(result).splitlines()) is (drop is not None)
    assert (result.doubt == told.strip()) is (verdict == "in doubt")
    assert str(result).startswith(f"parity fp32: {verdict if result else 'FAILED'} on")
    beside = gate.model_copy(update={"max_relative": 10.0})  # a limit on the logits as well
    assert compare(ours, theirs, np.zeros(images, int), beside).doubt is None


@pytest.mark.parametrize("size", [1, 2, 32])
def test_a_batch_size_that_does_not_run_is_a_failure(size: int) -> None:
    result = compare(logits(), Table(logits(), refuses=(size,)))
    assert result.failures == [f"does not run on a batch of {size}"]
    assert result.samples == 0


def test_a_batch_size_that_runs_wrong_is_a_failure() -> None:
    class Wrong(Table):
        def __call__(self, inputs: Any) -> Any:
            return super().__call__(inputs) + (0.01 if len(inputs) == 2 else 0)

    result = compare(logits(320), Wrong(logits(320)), gate=FP32)
    assert result.max_dlogit == 0
    assert result.failures == ["|dlogit| 0.01 is above 0.001"]


def test_logits_of_another_shape() -> None:
    result = compare(logits(), logits(classes=11))
    assert result.failures[0] == "batch 1: logits (1, 11) where PyTorch gives (1, 12)"


def test_fewer_images_than_announced_prove_nothing() -> None:
    table = Table(logits(3))
    inputs = np.zeros((3, 3, 1, 1), np.float32)
    with pytest.raises(MldrError, match="3 test images came where 5 were announced"):
        measure(
            table,
            table,
            [(inputs, np.zeros(3, np.int64))],
            samples=5,
            precision="fp32",
            gate=LOOSE,
            max_batch=4,
        )


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(MldrError, match="the split is empty"):
        compare(logits(0), logits(0))


class Linear:
    """A runner that weighs the mean of each channel; ``extra`` spoils what it gives."""

    def __init__(self, channels: Any = (0, 1, 2), extra: Any = None) -> None:
        self.weights = np.array([[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]])[list(channels)]
        self.extra = extra or (lambda x: 0)

    def __enter__(self) -> Linear:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, inputs: Any) -> Any:
        means = inputs.mean(axis=(2, 3))
        return (means @ self.weights + self.extra(means)).astype(np.float32)


def on_grey(artifact: Linear, gate: Gate = FP32) -> ParityResult:
    grey = np.random.default_rng(0).standard_normal((24, 1, 2, 2)).astype(np.float32)
    batches = [(grey.repeat(3, axis=1), np.ones(24, np.int64))]
    return measure(
        Linear(), artifact, batches, samples=24, precision="fp32", gate=gate, max_batch=24
    )


def test_channels_that_grey_images_do_not_show() -> None:
    assert on_grey(Linear())
    result = on_grey(Linear(channels=(2, 1, 0)))
    assert result.max_dlogit < 1e-5
    (failure,) = result.failures
    assert "in false colours is above 0.01: channels are taken in another order" in failure
    assert on_grey(Linear(channels=(2, 1, 0)), Gate(max_drop=1))  # no gate on logits, none here
    rounding = on_grey(Linear(extra=lambda means: 1e-3 * (means[:, :1] - means[:, 1:2])))
    assert 1e-3 < rounding.colour_dlogit < 1e-2  # type: ignore[operator]
    assert rounding  # larger logits, as false colours make them, round by more


def test_logits_that_are_drawn() -> None:
    rng = np.random.default_rng(1)
    result = on_grey(Linear(extra=lambda x: rng.normal(0, 0.5, (len(x), 2))), Gate())
    (failure,) = result.failures
    assert "two runs on the same images differ by" in failure and "dropout left on" in failure


def test_logits_that_depend_on_the_batch() -> None:
    centred = Linear(extra=lambda x: -0.5 * (x - x.mean(axis=0)) @ np.ones((3, 2)))
    result = on_grey(centred, Gate())
    (failure,) = result.failures
    assert "logits change by" in failure and "statistics of the batch" in failure


def test_sums_in_another_order_are_steady() -> None:
    rng = np.random.default_rng(1)
    assert on_grey(Linear(extra=lambda x: rng.normal(0, 1e-6, (len(x), 2))))
