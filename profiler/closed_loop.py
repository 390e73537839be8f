"""Closed loop: the next request begins when the one before is answered. Warm-up, then samples."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtimes.runtime import Runtime
from .clock import Clock
from .request_stages import Marks, Requests, request

_WINDOW_CALLS = 10
_WINDOW_NS = 50_000_000
_WINDOWS = 2  # in a row that must not be faster than all before them
_FASTER = 0.025  # as a part of the fastest before

Call = Callable[[int], Marks]


@dataclass(frozen=True)
class WarmedUp:
    """Calls and time of a warm-up; ``stable`` False: the time was over before it ended."""

    calls: int
    seconds: float
    stable: bool


def calls_of(runtime: Runtime, requests: Requests, batch: int, clock: Clock) -> Call:
    """``call(k)`` answers request number ``k`` of that batch size."""
    time_ns = clock.time_ns
    return lambda k: request(runtime, requests(k, batch), time_ns)


def warm_up(call: Call, limit_seconds: float) -> WarmedUp:
    """Call until the latency stops falling, or the time is over.

    It has stopped when two windows in a row have no median more than 2.5 % under the lowest before
    them. Noise moves medians up and down, warming up only down; so it ends on a busy machine too.
    """
    medians: list[float] = []
    calls, spent = 0, 0
    while True:
        window: list[int] = []
        while len(window) < _WINDOW_CALLS or sum(window) < _WINDOW_NS:
            marks = call(calls)
            window.append(marks[-1] - marks[0])
            calls += 1
            if spent + sum(window) > 1e9 * limit_seconds:
                return WarmedUp(calls, (spent + sum(window)) / 1e9, False)
        spent += sum(window)
        medians.append(statistics.median(window))
        before, last = medians[:-_WINDOWS], medians[-_WINDOWS:]
        if before and min(last) >= (1 - _FASTER) * min(before):
            return WarmedUp(calls, spent / 1e9, True)


def measure(call: Call, seconds: float, iterations: int, first: int = 0) -> NDArray[np.int64]:
    """Time stamps [N, 6] of at least ``iterations`` requests and ``seconds``, back to back.

    ``first`` numbers the first request, so that rounds go on with other images.
    """
    marks: list[Marks] = []
    append, k = marks.append, first
    until = None
    while until is None or marks[-1][-1] < until or len(marks) < iterations:
        append(call(k))
        k += 1
        if until is None:
            until = marks[0][0] + int(1e9 * seconds)
    return np.array(marks, np.int64)
