"""The timing of calls in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from .preprocess import Floats

_WARM_UP, _FEWEST = 5, 10  # calls
_ROUNDS = 5


def in_turns(
    runners: Sequence[Callable[[Floats], Floats]],
    images: Floats,
    batch: int,
    *,
    seconds: float = 1.0,
) -> list[list[float]]:
    """Milliseconds an image of each of ``runners``: the medians of five rounds of calls.

    Calls take ``batch`` of the real inputs ``images`` [N, 3, H, W], which they rotate through. The
    runners are called in turns, so that what else the machine does slows all of them alike.
    ``seconds`` is for each; there are 10 calls at least.
    """
    order = np.arange(max(len(images), batch)) % len(images)
    starts = range(0, len(order) - batch + 1, batch)
    calls = [np.ascontiguousarray(images[order[start : start + batch]]) for start in starts]
    for runner in runners:
        for k in range(_WARM_UP):
            runner(calls[k % len(calls)])
    times: list[list[float]] = [[] for _ in runners]
    begun = time.perf_counter()
    while len(times[0]) < _FEWEST or time.perf_counter() - begun < seconds * len(runners):
        call = calls[len(times[0]) % len(calls)]
        for runner, own in zip(runners, times, strict=True):
            begin = time.perf_counter()
            runner(call)
            own.append(1000 * (time.perf_counter() - begin) / batch)
    return [[float(np.median(part)) for part in np.array_split(own, _ROUNDS)] for own in times]
