"""A first idea of the cost of a call; the profiler with percentiles is a later matter."""

from __future__ import annotations

import statistics
import time

import numpy as np

from ..bundle.preprocess import Floats
from .runner import Runner


def milliseconds_per_image(
    runner: Runner, images: Floats, batch: int, *, seconds: float = 1.0, warm_up: int = 5
) -> float:
    """Median time of a call on ``batch`` of the real inputs ``images`` [N, 3, H, W], per image.

    Rotates through the images; runs for ``seconds`` and at least 10 calls after the warm-up.
    """
    order = np.arange(max(len(images), batch)) % len(images)
    starts = range(0, len(order) - batch + 1, batch)
    calls = [np.ascontiguousarray(images[order[start : start + batch]]) for start in starts]
    for k in range(warm_up):
        runner(calls[k % len(calls)])
    times: list[float] = []
    while len(times) < 10 or sum(times) < seconds:
        begin = time.perf_counter()
        runner(calls[len(times) % len(calls)])
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times) / batch
