"""Open loop: requests arrive by a Poisson process, whether or not the one before is answered.

Latency counts from the *scheduled* arrival. A loop that waits for an answer before it sends the
next request would leave the queueing out ("coordinated omission"); here a late start is part of
the latency. One server, first come first served, as a single runtime is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .clock import Clock
from .closed_loop import Call


@dataclass(frozen=True)
class Arrivals:
    """Answered requests, nanoseconds [N] each: from scheduled arrival to answer, and to begin."""

    latency: NDArray[np.int64]
    waiting: NDArray[np.int64]
    spent: int  # from the first arrival to the last answer


def schedule(
    rate: float, seconds: float, iterations: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Arrival times (ns from the beginning) at ``rate`` a second: exponential gaps between them."""
    count = max(iterations, round(rate * seconds))
    return np.cumsum(rng.exponential(1e9 / rate, count)).astype(np.int64)


def serve_arrivals(call: Call, arrivals: NDArray[np.int64], clock: Clock) -> Arrivals:
    """Answer each arrival when it is due, or as soon as those before it are answered."""
    zero = clock.time_ns()
    latency = np.empty(len(arrivals), np.int64)
    waiting = np.empty(len(arrivals), np.int64)
    for k, due in enumerate(arrivals.tolist()):
        clock.wait_until(zero + due)
        marks = call(k)
        latency[k] = marks[-1] - zero - due
        waiting[k] = marks[0] - zero - due
    return Arrivals(latency, waiting, clock.time_ns() - zero - int(arrivals[0]))
