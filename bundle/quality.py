"""How good the student is, class by class, and how far its probabilities can be believed.

Measured once, of the PyTorch student on the whole test split, whose logits parity computes anyway.
N images, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .preprocess import Floats
from .temperature import softmax

FILE = "quality.json"
BINS = 15  # of equal width, as in Guo et al., 2017
MOST_MISTAKES = 12
_SUMMARY = 10  # classes and pairs that the manifest names; quality.json has all
_Z = 1.959963984540054  # 95 %, two-sided
_RECORD = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassAccuracy(BaseModel):
    """One class on the test split, with Wilson's 95 % interval."""

    model_config = _RECORD

    label: str = Field(description="Name of the class.")
    images: int = Field(ge=1, description="Its test images.")
    hits: int = Field(ge=0, description="Those that the student named right.")
    low: float = Field(ge=0, le=100, description="Lower end of the interval, per cent.")
    high: float = Field(ge=0, le=100, description="Upper end, per cent.")

    @property
    def top1(self) -> float:
        """Accuracy, per cent."""
        return 100 * self.hits / self.images

    def __str__(self) -> str:
        return f"{self.label} ({self.top1:.0f} %, {self.low:.0f} to {self.high:.0f})"


class Confusion(BaseModel):
    """How often one class was taken for another."""

    model_config = _RECORD

    label: str = Field(description="What the images show.")
    said: str = Field(description="What the student said.")
    images: int = Field(ge=1, description="How many of them.")

    def __str__(self) -> str:
        return f"{self.label} called {self.said} ({self.images})"


class Mistake(BaseModel):
    """A wrong answer that the student was sure of."""

    model_config = _RECORD

    index: int = Field(ge=0, description="Position in the test split.")
    file: str = Field(description="Where the picture came from.")
    label: str = Field(description="What it is labelled.")
    said: str = Field(description="What the student said.")
    probability: float = Field(ge=0, le=1, description="How sure it was, calibrated.")


class Trust(BaseModel):
    """What a probability is worth at one temperature."""

    model_config = _RECORD

    ece: float = Field(
        ge=0, le=1, description="Expected calibration error of the named class, 15 equal bins."
    )
    loss: float = Field(ge=0, description="Mean cross-entropy with the labels, nats.")
    confidence: float = Field(ge=0, le=1, description="Mean probability of the named class.")


class Quality(BaseModel):
    """The summary that the manifest holds. The largest come first, of classes the weakest."""

    model_config = _RECORD

    images: int = Field(ge=1, description="Test images.")
    top1: float = Field(ge=0, le=100, description="Accuracy, per cent.")
    fitted_on: int = Field(
        ge=0, description="Validation images that the temperature was fitted on; 0: it was not."
    )
    plain: Trust = Field(description="Probabilities without the temperature.")
    calibrated: Trust = Field(description="Probabilities over the temperature.")
    weakest: list[ClassAccuracy] = Field(description="Classes of the lowest accuracy.")
    confused: list[Confusion] = Field(description="Pairs that are mixed up most.")
    mistakes: list[Mistake] = Field(description="The surest wrong answers.")

    def lines(self) -> list[str]:
        """What a person reads first, a line each; none where there is nothing to tell."""
        lines = [f"Weakest classes: {', '.join(map(str, self.weakest[:3]))}"]
        if self.confused:
            lines.append(f"Most confused: {', '.join(map(str, self.confused[:3]))}")
        for mistake in self.mistakes[:1]:
            lines.append(
                f"Surest mistake: {mistake.file} is labelled {mistake.label}, said "
                f"{mistake.said} ({100 * mistake.probability:.1f} %): look at the label too"
            )
        before, after = 100 * self.plain.ece, 100 * self.calibrated.ece
        if self.fitted_on:
            lines.append(
                f"Probabilities off by {after:.1f} points on average (ECE; {before:.1f} before "
                f"the temperature, fitted on {self.fitted_on} validation images)"
            )
        else:
            lines.append(f"Probabilities off by {before:.1f} points on average (ECE), uncalibrated")
        return lines


class Bin(BaseModel):
    """Answers of about the same probability."""

    model_config = _RECORD

    images: int = Field(ge=1, description="How many.")
    confidence: float = Field(ge=0, le=1, description="Their mean probability.")
    accuracy: float = Field(ge=0, le=1, description="Part of them that is right.")


class QualityTables(BaseModel):
    """``quality.json``: all of it."""

    model_config = _RECORD

    schema_version: int = Field(default=1, description="Version of this layout.")
    classes: list[ClassAccuracy] = Field(description="Every class with test images, in order.")
    confused: list[Confusion] = Field(description="Every pair that was mixed up.")
    plain: list[Bin] = Field(description="Reliability without the temperature.")
    calibrated: list[Bin] = Field(description="Reliability over the temperature.")


class Answers:
    """What the student said to the images of a split, collected batch by batch."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.finite, self.images = True, 0
        self._rows: list[NDArray[np.float64]] = []

    def add(self, logits: Floats, labels: NDArray[np.int64]) -> None:
        """One batch: logits [B, C] and labels [B]. Kept are a few numbers an image."""
        self.images += len(labels)
        if not np.isfinite(logits).all():
            self.finite = False
            return
        images = np.arange(len(labels))
        answers = logits.argmax(axis=1)
        columns = [labels, answers]
        for temperature in (1.0, self.temperature):
            shares = softmax(logits, temperature)
            truth = np.maximum(shares[images, labels], np.finfo(np.float64).tiny)
            columns += [shares[images, answers], -np.log(truth)]
        self._rows.append(np.stack(columns, axis=1).astype(np.float64))

    def table(self) -> NDArray[np.float64]:
        """[N, 6]: label, said, then probability and loss, plain and calibrated."""
        return np.concatenate(self._rows) if self._rows else np.empty((0, 6))


def quality_of(
    answers: Answers, labels: Sequence[str], file: Callable[[int], str], fitted_on: int
) -> tuple[Quality, QualityTables] | None:
    """Summary and tables of the whole split; ``file`` names its images.

    None where a logit was not finite: parity tells that one.
    """
    table = answers.table()
    if not answers.finite or not len(table):
        return None
    truth, named = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    right = truth == named
    classes, confused = _classes(truth, right, labels), _confused(truth, named, labels)
    bins = [reliability(table[:, column], right) for column in (2, 4)]
    trusts = [
        Trust(
            ece=sum(b.images * abs(b.confidence - b.accuracy) for b in filled) / len(table),
            loss=float(table[:, column + 1].mean()),
            confidence=float(table[:, column].mean()),
        )
        for filled, column in zip(bins, (2, 4), strict=True)
    ]
    surest = sorted(np.flatnonzero(~right), key=lambda k: -table[k, 4])[:MOST_MISTAKES]
    summary = Quality(
        images=len(table),
        top1=100 * float(right.mean()),
        fitted_on=fitted_on,
        plain=trusts[0],
        calibrated=trusts[1],
        weakest=sorted(classes, key=lambda accuracy: accuracy.top1)[:_SUMMARY],
        confused=confused[:_SUMMARY],
        mistakes=[
            Mistake(
                index=int(k),
                file=file(int(k)),
                label=labels[truth[k]],
                said=labels[named[k]],
                probability=float(table[k, 4]),
            )
            for k in surest
        ],
    )
    tables = QualityTables(classes=classes, confused=confused, plain=bins[0], calibrated=bins[1])
    return summary, tables


def wilson(hits: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, 0 to 1 (Wilson, 1927)."""
    share, square = hits / images, _Z**2 / images
    centre = (share + square / 2) / (1 + square)
    half = math.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def reliability(probabilities: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Bin]:
    """The bins that hold answers, the least probable first. Bin k is (k / BINS, (k + 1) / BINS]."""
    places = np.clip(np.ceil(probabilities * BINS).astype(np.int64) - 1, 0, BINS - 1)
    groups = (places == k for k in range(BINS))
    return [
        Bin(
            images=int(group.sum()),
            confidence=float(probabilities[group].mean()),
            accuracy=float(right[group].mean()),
        )
        for group in groups
        if group.any()
    ]


def _classes(
    truth: NDArray[np.int64], right: NDArray[np.bool_], labels: Sequence[str]
) -> list[ClassAccuracy]:
    images = np.bincount(truth, minlength=len(labels))
    hits = np.bincount(truth[right], minlength=len(labels))
    accuracies = []
    for name, count, good in zip(labels, images.tolist(), hits.tolist(), strict=True):
        if count:
            low, high = (100 * end for end in wilson(good, count))
            accuracies.append(
                ClassAccuracy(label=name, images=count, hits=good, low=low, high=high)
            )
    return accuracies


def _confused(
    truth: NDArray[np.int64], named: NDArray[np.int64], labels: Sequence[str]
) -> list[Confusion]:
    wrong = truth != named
    pairs, counts = np.unique(
        np.stack([truth[wrong], named[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    return [
        Confusion(label=labels[a], said=labels[b], images=int(count))
        for (a, b), count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
    ]
