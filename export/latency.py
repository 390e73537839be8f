"""A first idea of the cost of a call; the profiler with percentiles is serve's matter."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence

import numpy as np

from ..bundle.latency import Latency
from ..bundle.preprocess import Floats
from ..bundle.processor import processor, usable_cores
from ..runtimes.runtime import Predictor, Runtime

_WARM_UP, _FEWEST = 5, 10  # calls


def milliseconds_per_image(
    runner: Predictor, images: Floats, batch: int, *, seconds: float = 1.0, warm_up: int = _WARM_UP
) -> float:
    """Median time of a call on ``batch`` of the real inputs ``images`` [N, 3, H, W], per image.

    Rotates through the images; runs for ``seconds`` and at least 10 calls after the warm-up.
    """
    (result,) = in_turns([runner], images, batch, seconds=seconds, warm_up=warm_up)
    return result


def in_turns(
    runners: Sequence[Predictor],
    images: Floats,
    batch: int,
    *,
    seconds: float = 1.0,
    warm_up: int = _WARM_UP,
) -> list[float]:
    """``milliseconds_per_image`` of several entered runners, called in turns.

    What else the machine does slows all of them alike. ``seconds`` is for each.
    """
    order = np.arange(max(len(images), batch)) % len(images)
    starts = range(0, len(order) - batch + 1, batch)
    calls = [np.ascontiguousarray(images[order[start : start + batch]]) for start in starts]
    for runner in runners:
        for k in range(warm_up):
            runner(calls[k % len(calls)])
    times: list[list[float]] = [[] for _ in runners]
    begun = time.perf_counter()
    while len(times[0]) < _FEWEST or time.perf_counter() - begun < seconds * len(runners):
        call = calls[len(times[0]) % len(calls)]
        for runner, own in zip(runners, times, strict=True):
            begin = time.perf_counter()
            runner(call)
            own.append(time.perf_counter() - begin)
    return [1000 * statistics.median(own) / batch for own in times]


def latencies(
    runners: dict[str, Runtime], images: Floats, batch: int, *, seconds: float, threads: int
) -> dict[str, Latency]:
    """Latency of every one of ``runners``, not yet entered, by the same names."""
    with contextlib.ExitStack() as stack:
        ready = [stack.enter_context(runner) for runner in runners.values()]
        single = in_turns(ready, images, 1, seconds=seconds)
        large = in_turns(ready, images, batch, seconds=seconds)
    return {
        name: Latency(
            ms_single=one,
            ms_batch=many,
            batch=batch,
            threads=threads or usable_cores(),
            machine=processor(),
        )
        for name, one, many in zip(runners, single, large, strict=True)
    }
