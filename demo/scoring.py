"""Many images through one artifact: a row an image, accuracy and confusion where labels are known.

C classes.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..bundle.preprocess import Floats, normalise, to_pixels
from ..errors import MldrError
from ..serve.request_refusal import RequestRefusal
from ..serve.shares import probabilities
from ..serve.uploads import open_image
from .archive import Picture
from .loaded_student import Form

HEADS = ("file", "says", "probability", "label", "right", "problem")
_BATCH = 32
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Row:
    """One image's result; ``problem`` where there is none."""

    name: str
    predicted: int | None = None
    probability: float = 0.0
    top: tuple[int, ...] = ()
    label: int | None = None
    problem: str = ""


@dataclass
class Scores:
    """All rows and what follows from them."""

    labels: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0  # of compute

    @property
    def answered(self) -> list[Row]:
        """Rows with an answer."""
        return [row for row in self.rows if row.predicted is not None]

    @property
    def labelled(self) -> list[Row]:
        """Rows with an answer and a known label."""
        return [row for row in self.answered if row.label is not None]

    def top(self, k: int) -> float | None:
        """Per cent of labelled images whose label is among the first k; None without any."""
        labelled = self.labelled
        if not labelled:
            return None
        return 100 * sum(row.label in row.top[:k] for row in labelled) / len(labelled)

    def confusion(self) -> NDArray[np.int64]:
        """Counts [C, C]: row the label, column what was said."""
        counts = np.zeros((len(self.labels),) * 2, np.int64)
        for row in self.labelled:
            counts[row.label, row.predicted] += 1
        return counts

    def mistakes(self) -> list[tuple[str, str, int]]:
        """(label, said, count), the most frequent first."""
        counts = self.confusion()
        np.fill_diagonal(counts, 0)
        pairs = np.argwhere(counts)
        mistakes = [(self.labels[a], self.labels[b], int(counts[a, b])) for a, b in pairs]
        return sorted(mistakes, key=lambda pair: -pair[2])

    def cells(self) -> Iterator[list[str]]:
        """The rows as text, in the order of HEADS."""
        for row in self.rows:
            prediction = "" if row.predicted is None else self.labels[row.predicted]
            label = "" if row.label is None else self.labels[row.label]
            right = ""
            if row.predicted is not None and row.label is not None:
                right = "yes" if row.predicted == row.label else "no"
            probability = "" if row.predicted is None else f"{row.probability:.4f}"
            yield [row.name, prediction, probability, label, right, row.problem]

    def csv(self) -> str:
        """The table as a file for spreadsheets, in which no name can act as a formula."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADS)
        for cells in self.cells():
            writer.writerow([f"'{c}" if c.startswith(_FORMULA) else c for c in cells])
        return text.getvalue()


def score(
    pictures: Iterable[Picture], form: Form, most_pixels: int, batch: int = _BATCH
) -> Iterator[Scores]:
    """Answer the images in batches; after each, the scores so far. Raises as ``pictures`` does."""
    manifest = form.manifest
    names = (unicodedata.normalize("NFC", label) for label in manifest.labels)
    index = {name: k for k, name in enumerate(names)}
    scores = Scores(manifest.labels)
    waiting: list[tuple[int, Floats]] = []
    size = max(1, min(batch, manifest.max_batch))
    for picture in pictures:
        label = index.get(picture.folder)
        try:
            inputs = _inputs(picture, form, most_pixels)
        except (RequestRefusal, MldrError) as error:
            scores.rows.append(Row(picture.name, label=label, problem=str(error)))
            continue
        waiting.append((len(scores.rows), inputs))
        scores.rows.append(Row(picture.name, label=label))
        if len(waiting) == size:
            _compute(scores, waiting, form)
            waiting = []
            yield scores
    if waiting:
        _compute(scores, waiting, form)
    yield scores


def _inputs(picture: Picture, form: Form, most_pixels: int) -> Floats:
    if picture.problem is not None:
        raise MldrError(picture.problem)
    spec = form.manifest.preprocessing
    return normalise(to_pixels(open_image(picture.data, most_pixels), spec)[None], spec)


def _compute(scores: Scores, waiting: list[tuple[int, Floats]], form: Form) -> None:
    logits, seconds = form(np.concatenate([inputs for _, inputs in waiting]))
    scores.seconds += seconds
    temperature = form.manifest.temperature
    for (place, _), row_logits in zip(waiting, logits, strict=True):
        row = scores.rows[place]
        try:
            shares = probabilities(row_logits, temperature)
        except RequestRefusal as error:
            scores.rows[place] = Row(row.name, label=row.label, problem=str(error))
            continue
        top = tuple(int(k) for k in (-shares).argsort(kind="stable")[:5])
        scores.rows[place] = Row(row.name, top[0], float(shares[top[0]]), top, row.label)
