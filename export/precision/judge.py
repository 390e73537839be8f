"""Validation images that variants of a graph are judged on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...bundle.preprocess import Floats, Pixels, Preprocessing, normalise
from ...runtimes.runtime import Predictor

if TYPE_CHECKING:
    from ...data.split import Split

_BATCH = 32


class Judge:
    """The first ``count`` images of a shuffled split, decoded once, and their labels."""

    def __init__(self, split: Split, preprocessing: Preprocessing, count: int) -> None:
        order = np.random.default_rng(0).permutation(len(split))[:count]
        self._pixels: Pixels = np.stack([split.fitted(int(row), preprocessing) for row in order])
        self._labels, self._preprocessing = split.labels[order], preprocessing

    def __len__(self) -> int:
        return len(self._labels)

    def logits(self, predict: Predictor, count: int | None = None) -> Floats:
        """Logits float32 [count, C] for the first ``count`` images."""
        pixels = self._pixels[:count]
        batches = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
        return np.concatenate([predict(normalise(batch, self._preprocessing)) for batch in batches])

    def top1(self, predict: Predictor) -> float:
        """Top-1 accuracy, per cent; a row with NaN is wrong."""
        logits = self.logits(predict)
        right = (logits.argmax(axis=1) == self._labels) & np.isfinite(logits).all(axis=1)
        return float(100 * right.mean())
