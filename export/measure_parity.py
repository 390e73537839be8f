"""Measuring an artifact beside the PyTorch student on a whole split.

See docs/design.md, section Parity.

N images in batches of B, C classes; logits are float32 [B, C]. Streams: what is kept is one
number per image and the largest hundredth of the logit differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..bundle.mcnemar import mcnemar_exact
from ..bundle.parity import Accuracy, BatchCheck, Gate, ParityResult
from ..bundle.preprocess import Floats
from ..bundle.progress import Progress, Silent
from ..errors import MldrError
from ..runtimes.runtime import Predictor, RunError

# False colours lie off what the student was trained on, where logits and their rounding are larger;
# mixed-up channels move logits by far more than this many limits.
_COLOURS = 10
_STEADY = 8  # images that are run again, and alone
Labels = NDArray[np.int64]
Batches = Iterable[tuple[Floats, Labels]]


def measure(
    reference: Predictor,
    artifact: Predictor,
    batches: Batches,
    *,
    samples: int,
    precision: str,
    gate: Gate,
    max_batch: int,
    progress: Progress | None = None,
    record: Callable[[Floats, Labels], None] | None = None,
) -> ParityResult:
    """Compare two entered runners on ``batches`` of ``max_batch`` images, ``samples`` in all.

    The first images are also tried in batches of 1 and 2 (and max_batch, repeated to fill it).
    ``record`` is given the student's logits and the labels of every batch. An artifact that does
    not run is a failed result, not an exception.
    """
    progress = progress or Silent()
    stream = iter(batches)
    first = next(stream, None)
    if first is None or samples < 1:
        raise MldrError("parity needs test images and the split is empty: choose another data set")
    batch_checks = [_try_batch(reference, artifact, first[0], size) for size in (1, 2, max_batch)]
    tally = Tally(samples, gate)
    probed: dict[str, float] = {}
    if all(check.error is None for check in batch_checks):
        probed = _steadiness(artifact, first[0])
        probed["colour_dlogit"] = _off_colour(reference, artifact, first[0])
        progress.start(f"parity {precision}", samples)
        for inputs, labels in _chain(first, stream):
            logits = reference(inputs)
            tally.add(logits, artifact(inputs), labels)
            if record is not None:
                record(logits, labels)
            progress.advance(len(labels))
        progress.finish()
    return tally.result(precision, batch_checks, probed)


class Tally:
    """The running sums of a comparison. ``samples`` is N, known from the start."""

    def __init__(self, samples: int, gate: Gate) -> None:
        self.samples, self.gate, self.count = samples, gate, 0
        self.top1 = np.zeros(2, np.int64)  # reference, artifact
        self.top5 = np.zeros(2, np.int64)
        self.nonfinite = np.zeros(2, np.int64)
        self.lost = self.gained = self.disagreements = self.ties = 0
        self.worst: float | None = None  # before the first difference
        self.worst_index, self.kl, self.compared = 0, 0.0, 0
        self.largest = 0.0
        self.classes: int | None = None
        self._top = np.empty(0, np.float32)

    def add(self, reference: Floats, artifact: Floats, labels: Labels) -> None:
        """One batch of logits [B, C] of both and the labels [B]."""
        if reference.shape != artifact.shape or reference.shape[0] != len(labels):
            raise MldrError(
                f"logits {artifact.shape} of the artifact beside {reference.shape} of PyTorch: "
                "this is another model's artifact"
            )
        self.classes = reference.shape[1]
        pair = (reference, artifact)
        finite = [_finite(logits) for logits in pair]
        right = [(_first(x) == labels) & f for x, f in zip(pair, finite, strict=True)]
        self.top1 += [int(r.sum()) for r in right]
        self.top5 += [
            int((_within_top5(x, labels) & f).sum()) for x, f in zip(pair, finite, strict=True)
        ]
        self.nonfinite += [int((~np.isfinite(x)).sum()) for x in pair]
        self.lost += int((right[0] & ~right[1]).sum())
        self.gained += int((~right[0] & right[1]).sum())
        self._agree(reference, artifact, finite[0] & finite[1])
        self._differ(reference, artifact, finite[0] & finite[1])
        self.count += len(labels)

    def _agree(self, reference: Floats, artifact: Floats, finite: NDArray[np.bool_]) -> None:
        """A swap of two classes needs a gap of at most twice the difference of a logit.

        So a disagreement is a tie when the student's own gap is within twice what the gate allows:
        judged by the *measured* difference instead, every disagreement would be one.
        """
        expected, actual = _first(reference), _first(artifact)
        rows = np.arange(len(expected))
        disagrees = (expected != actual) | ~finite
        gap = reference[rows, expected] - reference[rows, actual]
        self.disagreements += int(disagrees.sum())
        self.ties += int((disagrees & finite & (gap <= 2 * (self.gate.max_dlogit or 0.0))).sum())

    def _differ(self, reference: Floats, artifact: Floats, finite: NDArray[np.bool_]) -> None:
        classes = reference.shape[1]
        total = self.samples * classes
        keep = total - math.ceil(0.99 * total) + 1  # nearest rank: the keep-th largest is the p99
        if not finite.all() and self.worst != math.inf:  # NaN is worse than any difference
            self.worst, self.worst_index = math.inf, self.count + int(np.argmin(finite))
        if not finite.any():
            return
        self.largest = max(self.largest, float(np.abs(reference[finite]).max()))
        difference = np.abs(reference[finite] - artifact[finite])
        worst = difference.max(axis=1)
        if self.worst is None or worst.max() > self.worst:
            self.worst = float(worst.max())
            self.worst_index = self.count + int(np.flatnonzero(finite)[worst.argmax()])
        top = np.concatenate([self._top, difference.ravel()])
        self._top = np.partition(top, len(top) - keep)[-keep:] if len(top) > keep else top
        expected, actual = log_softmax(reference[finite]), log_softmax(artifact[finite])
        self.kl += float((np.exp(expected) * (expected - actual)).sum())
        self.compared += int(finite.sum())

    def result(
        self, precision: str, batch_checks: list[BatchCheck], probed: dict[str, float]
    ) -> ParityResult:
        """The record, held against the gate."""
        if self.count not in (0, self.samples):
            raise MldrError(f"{self.count} test images came where {self.samples} were announced")
        count, compared = max(self.count, 1), max(self.compared, 1)
        accuracy = [
            Accuracy(top1=100 * int(a) / count, top5=100 * int(b) / count)
            for a, b in zip(self.top1, self.top5, strict=True)
        ]
        ordered = np.sort(self._top)
        measured = ParityResult(
            precision=precision,
            samples=self.count,
            classes=self.classes,
            reference=accuracy[0],
            artifact=accuracy[1],
            lost=self.lost,
            gained=self.gained,
            mcnemar_p=mcnemar_exact(self.lost, self.gained),
            disagreements=self.disagreements,
            ties=self.ties,
            max_dlogit=float(ordered[-1]) if len(ordered) else 0.0,
            p99_dlogit=float(ordered[0]) if len(ordered) else 0.0,
            mean_kl=self.kl / compared,
            nonfinite=int(self.nonfinite[1]),
            reference_nonfinite=int(self.nonfinite[0]),
            largest_logit=self.largest,
            **probed,
            worst_index=self.worst_index,
            batches=batch_checks,
            gate=self.gate,
            failures=[],
        )
        return measured.model_copy(update={"failures": failures(measured)})


def failures(measured: ParityResult) -> list[str]:
    """Every way in which ``measured`` breaks its gate, in words; empty when it holds."""
    gate, needed = measured.gate, measured.needed
    broken = [check.error for check in measured.batches if check.error is not None]
    for check in measured.batches:
        if check.error is None and check.max_dlogit is None and not measured.nonfinite:
            broken.append(f"batch {check.batch}: logits are NaN or infinite")
    if measured.nonfinite:
        broken.append(f"{measured.nonfinite} logits are NaN or infinite")
    if measured.reference_nonfinite:
        broken.append(
            f"{measured.reference_nonfinite} logits of the PyTorch student itself are "
            "NaN or infinite"
        )
    if not measured.samples:
        return broken
    if gate.min_agreement is not None and measured.agreement < gate.min_agreement:
        broken.append(f"agreement {measured.agreement:.3f} % is below {gate.min_agreement:g} %")
    if gate.max_dlogit is not None and (needed.max_dlogit or 0.0) > gate.max_dlogit:
        broken.append(f"|dlogit| {needed.max_dlogit:.3g} is above {gate.max_dlogit:g}")
    if gate.max_relative is not None and (needed.max_relative or 0.0) > gate.max_relative:
        broken.append(
            f"|dlogit| {needed.max_dlogit:.3g} is {needed.max_relative:.2g} of the largest logit, "
            f"above {gate.max_relative:g}"
        )
    colours = measured.colour_dlogit or 0.0
    within = gate.max_dlogit is not None and (needed.max_dlogit or 0.0) <= gate.max_dlogit
    if gate.max_dlogit is not None and within and colours > _COLOURS * gate.max_dlogit:
        broken.append(
            f"|dlogit| {colours:.3g} in false colours is above {_COLOURS * gate.max_dlogit:g}: "
            "channels are taken in another order or proportion"
        )
    broken += _unsteady(measured)
    if measured.excess and measured.significant:
        broken.append(
            f"top-1 drop {measured.drop:.2f} points is above {gate.max_drop:g} "
            f"(McNemar p {measured.mcnemar_p:.2g})"
        )
    return broken


def _unsteady(measured: ParityResult) -> list[str]:
    """Logits that depend on more than the image, beyond what the order of sums explains."""
    allowed = measured.gate.band * (measured.largest_logit or 0.0)
    broken = []
    if (measured.repeat_dlogit or 0.0) > allowed:
        broken.append(
            f"two runs on the same images differ by {measured.repeat_dlogit:.3g}: something draws "
            "random numbers (dropout left on?)"
        )
    elif (measured.batch_dlogit or 0.0) > allowed:
        broken.append(
            f"an image's logits change by {measured.batch_dlogit:.3g} with the images beside it: "
            "something takes statistics of the batch (BatchNorm in training mode?)"
        )
    return broken


def _steadiness(artifact: Predictor, inputs: Floats) -> dict[str, float]:
    """Largest finite differences of the same images run twice, and one by one."""
    sample = inputs[:_STEADY]
    logits = artifact(sample)
    repeated, singly = (
        artifact(sample),
        np.concatenate([artifact(sample[i : i + 1]) for i in range(len(sample))]),
    )
    with np.errstate(invalid="ignore"):
        differences = {"repeat_dlogit": repeated - logits, "batch_dlogit": singly - logits}
    return {
        name: float(np.abs(np.where(np.isfinite(value), value, 0)).max())
        for name, value in differences.items()
    }


def false_colours(inputs: Floats) -> Floats:
    """The inputs [B, 3, H, W] with channels that differ, even if the images are grey."""
    return inputs * np.array([1, -1, 0.5], np.float32)[:, None, None]


def _off_colour(reference: Predictor, artifact: Predictor, inputs: Floats) -> float:
    """Largest finite difference from the student on a few images in false colours."""
    sample = false_colours(inputs[:_STEADY])
    with np.errstate(invalid="ignore"):
        difference = np.abs(reference(sample) - artifact(sample))
    return float(difference[np.isfinite(difference)].max(initial=0.0))


def _try_batch(reference: Predictor, artifact: Predictor, inputs: Floats, size: int) -> BatchCheck:
    """``inputs``, repeated or cut to ``size``, through both."""
    batch = inputs[np.arange(size) % len(inputs)]
    try:
        logits = artifact(batch)
    except RunError as error:
        return BatchCheck(batch=size, max_dlogit=None, error=str(error))
    expected = reference(batch)
    if logits.shape != expected.shape:
        error_text = f"batch {size}: logits {logits.shape} where PyTorch gives {expected.shape}"
        return BatchCheck(batch=size, max_dlogit=None, error=error_text)
    with np.errstate(invalid="ignore"):
        difference = np.abs(expected - logits)
    finite = bool(np.isfinite(difference).all())
    return BatchCheck(batch=size, max_dlogit=float(difference.max()) if finite else None)


def _chain(first: tuple[Floats, Labels], following: Iterator[tuple[Floats, Labels]]) -> Batches:
    yield first
    yield from following


def _first(logits: Floats) -> Labels:
    """Top-1 class [B]; of equal logits the lowest index; NaN is never the largest."""
    return np.asarray(np.argmax(np.where(np.isnan(logits), -np.inf, logits), axis=1))


def _finite(logits: Floats) -> NDArray[np.bool_]:
    """Whether every logit of the image is a number [B]."""
    return np.asarray(np.isfinite(logits).all(axis=1))


def _within_top5(logits: Floats, labels: Labels) -> NDArray[np.bool_]:
    """Whether fewer than five classes rank before the label (equal logits: lower index first)."""
    label_logit = logits[np.arange(len(labels)), labels][:, None]
    before = np.arange(logits.shape[1])[None] < labels[:, None]
    rank = ((logits > label_logit) | ((logits == label_logit) & before)).sum(axis=1)
    return np.asarray(rank < 5)


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """[..., C] in float64, along the last axis."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))
