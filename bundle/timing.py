"""The timing of calls in turns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .preprocess import Floats

_WARM_UP, _FEWEST = 5, 10  # calls
_ROUNDS = 5
_LONGEST = 3  # times the seconds, after which fewer calls must do


def in_turns(
    runners: Sequence[Callable[[Floats], Floats]],
    images: Sequence[Floats],
    batch: int,
    *,
    seconds: float = 1.0,
) -> list[list[float]]:
    """Milliseconds an image of each of ``runners``: the medians of five rounds of calls.

    Calls take ``batch`` of a runner's real inputs, [N, 3, H, W] of ``images``, which they rotate
    through. The runners are called in turns, so that what else the machine does slows all of them
    alike. ``seconds`` is for each; there are 10 calls at least, after 5 to warm up, but fewer (and
    so fewer rounds) where they would take thrice that time.
    """
    rotations = [_calls(inputs, batch) for inputs in images]
    allowed = seconds * len(runners)
    begun = time.perf_counter()
    for k in range(_WARM_UP):
        for runner, calls in zip(runners, rotations, strict=True):
            runner(calls[k % len(calls)])
        if 0 < _LONGEST * allowed < time.perf_counter() - begun:
            break
    times: list[list[float]] = [[] for _ in runners]
    begun = time.perf_counter()
    for k in _turns(allowed, begun):
        for runner, calls, durations in zip(runners, rotations, times, strict=True):
            begin = time.perf_counter()
            runner(calls[k % len(calls)])
            durations.append(1000 * (time.perf_counter() - begin) / batch)
    return [
        [float(np.median(part)) for part in np.array_split(durations, min(_ROUNDS, len(durations)))]
        for durations in times
    ]


def _turns(allowed: float, begun: float) -> Iterator[int]:
    """The numbers of the turns that there is time for, counted from ``begun``; one at least."""
    for k in itertools.count():
        elapsed = time.perf_counter() - begun
        short = k < _FEWEST and not 0 < _LONGEST * allowed < elapsed
        if k and not short and elapsed >= allowed:
            return
        yield k


def _calls(images: Floats, batch: int) -> list[Floats]:
    """``images`` in batches, each image as often as it takes to fill one."""
    order = np.arange(max(len(images), batch)) % len(images)
    starts = range(0, len(order) - batch + 1, batch)
    return [np.ascontiguousarray(images[order[start : start + batch]]) for start in starts]
