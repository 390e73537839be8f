"""From values to places in a picture, and the round values to write beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LOG_FROM = 4.0  # ratio of largest to smallest from which an axis is logarithmic


@dataclass(frozen=True)
class Scale:
    """``low`` to ``high`` onto ``start`` to ``end``; ``ticks`` lie in between."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def fitted(values: Sequence[float], start: float, end: float, *, least: float = 0.0) -> Scale:
    """A scale with room around positive ``values``; logarithmic when they span much."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= _LOG_FROM:
        low, high = low / 1.15, high * 1.15
        return Scale(low, high, start, end, True, log_ticks(low, high))
    room = max(0.12 * (high - low), least or 0.02 * abs(high))
    low, high = low - room, high + room
    return Scale(low, high, start, end, False, linear_ticks(low, high))


def from_zero(high: float, start: float, end: float) -> Scale:
    """A linear scale that begins at 0, for bars."""
    high = high * 1.02 or 1.0
    return Scale(0.0, high, start, end, False, linear_ticks(0.0, high))


def doubling(values: Sequence[int], start: float, end: float) -> Scale:
    """A logarithmic scale with a tick at each value: batch sizes."""
    low, high = min(values) / 1.2, max(values) * 1.2
    return Scale(low, high, start, end, True, tuple(values))


def linear_ticks(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= about)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(k * step for k in range(first, last + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2, 5 in each decade; fewer when there are many decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(ticks) <= 7:
            break
    return tuple(ticks)


def short(value: float) -> str:
    """Three significant digits without needless zeros; thousands as k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"
