"""The temperature that makes a softmax say how often it is right (Guo et al., 2017, section 4.2).

N images, C classes; logits are float32 [N, C], labels int64 [N].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .preprocess import Floats

LOWEST, HIGHEST = 0.05, 20.0
_ROWS = 4096  # images at a time, which bounds the float64 copies
_STEPS = 100
_EXACT = 1e-10  # of the scale


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The temperature of the lowest mean cross-entropy of softmax(logits / temperature).

    1 where nothing can be fitted: no images, logits that are not finite, or no mistake, which
    would make every answer certain. Between LOWEST and HIGHEST.
    """
    if not len(labels) or not np.isfinite(logits).all():
        return 1.0
    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    # The loss is convex in the scale 1 / temperature: Newton's steps, halved into the bracket.
    low, high, scale = 1 / HIGHEST, 1 / LOWEST, 1.0
    for _ in range(_STEPS):
        slope, bend = _derivatives(logits, labels, scale)
        low, high = (scale, high) if slope < 0 else (low, scale)
        following = scale - slope / bend if bend > 0 else high
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - scale) <= _EXACT * scale:
            break
        scale = following
    return float(1 / scale)


def _derivatives(logits: Floats, labels: NDArray[np.int64], scale: float) -> tuple[float, float]:
    """First and second derivative of the mean cross-entropy of softmax(scale * logits)."""
    slope = bend = 0.0
    for start in range(0, len(labels), _ROWS):
        rows = logits[start : start + _ROWS].astype(np.float64)
        truth = rows[np.arange(len(rows)), labels[start : start + _ROWS]]
        shares = softmax(rows, 1 / scale)
        mean = (shares * rows).sum(axis=1)
        slope += float((mean - truth).sum())
        bend += float((shares * (rows - mean[:, None]) ** 2).sum())
    return slope / len(labels), bend / len(labels)


def softmax(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities [N, C] of logits [N, C] over ``temperature``."""
    shifted = (logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / temperature
    odds = np.exp(shifted)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
