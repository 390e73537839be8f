"""The clock that everything is measured by; tests put a virtual one in its place."""

from __future__ import annotations

import time
from typing import Protocol

SPIN = 300_000  # ns before an arrival at which sleeping ends: sleep() wakes up late


class Clock(Protocol):
    """Time in nanoseconds from an arbitrary beginning."""

    def time_ns(self) -> int:
        """The time, monotonic."""

    def wait_until(self, moment: int) -> None:
        """Return at ``moment`` or at once when it has passed."""


class WallClock:
    """The machine's monotonic clock of highest resolution."""

    time_ns = staticmethod(time.perf_counter_ns)

    def wait_until(self, moment: int) -> None:
        """Sleep, then spin for the last stretch."""
        remaining = moment - time.perf_counter_ns()
        if remaining > SPIN:
            time.sleep((remaining - SPIN) / 1e9)
        while time.perf_counter_ns() < moment:
            pass
