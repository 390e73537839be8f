"""How many threads a training step takes on a CPU: measured, and again where steps get slow.

On cores that others use too, two threads that wait for each other at every layer can take several
times as long as one. A number of threads is a choice for good: another one may sum in another
order. So every change is recorded with its step before that step is done, and repeated on resume.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..bundle.progress import Progress, Silent
from .execution import ExecutionRecord

_WORTH = 500  # steps to do, from which measuring costs little beside what it saves
_TRIALS = 3  # steps timed with every number, after one that warms up
_SLOW = 3.0  # times the median
_WINDOW = 50  # steps that the median is of
_ENOUGH = 20  # of them, before which nothing counts as slow
_PAUSE = 100  # steps after measuring in which it is not done again

Clock = Callable[[], float]


class StepThreads:
    """The number of threads of every step of one run, in a process on its own.

    Args:
        configured: the number that the recipe says; 0: measured.
        steps: of the whole run; a short one takes what the process has.
    """

    def __init__(
        self,
        record: ExecutionRecord,
        *,
        configured: int = 0,
        steps: int = 0,
        progress: Progress | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._record, self._configured, self._steps = record, configured, steps
        self._progress, self._clock = progress or Silent(), clock
        self._most = torch.get_num_threads()
        self._durations: deque[float] = deque(maxlen=_WINDOW)
        self._slow = False  # whether the last step was
        self._since = 0  # steps since it was measured

    @contextmanager
    def run(self) -> Iterator[None]:
        """Around all steps; the process has its own number of threads again afterwards."""
        try:
            yield
        finally:
            torch.set_num_threads(self._most)

    @contextmanager
    def step(self, step: int, rehearse: Callable[[], None]) -> Iterator[None]:
        """Around one step. ``rehearse`` does its work without effect, to be timed."""
        torch.set_num_threads(self._chosen(step, rehearse))
        began = self._clock()
        yield
        seconds = self._clock() - began
        if len(self._durations) >= _ENOUGH and self._since >= _PAUSE:
            self._slow = seconds >= _SLOW * statistics.median(self._durations)
        self._durations.append(seconds)
        self._since += 1

    def _chosen(self, step: int, rehearse: Callable[[], None]) -> int:
        recorded, schedule = self._record.chosen.of_step(step), self._record.chosen.threads
        if self._configured:
            if recorded != self._configured:
                self._record.choose(threads={step: self._configured})
            return self._configured
        if recorded is None:
            measures = step == 0 and self._steps >= _WORTH
            threads = self._measured(rehearse) if measures else self._most
            self._record.choose(threads={step: threads})
            return threads
        if self._slow and step > max(schedule):
            threads = self._measured(rehearse)
            if threads != recorded:
                self._record.choose(threads={**schedule, step: threads})
            return threads
        return recorded

    def _measured(self, rehearse: Callable[[], None]) -> int:
        """The number whose steps are the quickest now: one, half or all."""
        numbers = sorted({1, max(1, self._most // 2), self._most})
        self._slow, self._since = False, 0
        self._durations.clear()
        if len(numbers) == 1:
            return numbers[0]
        seconds: dict[int, float] = {}
        for threads in numbers:
            best = min(seconds.values(), default=math.inf)
            seconds[threads] = self._timed(threads, rehearse, best)
        times = ", ".join(f"{threads}: {1000 * t:.0f} ms" for threads, t in seconds.items())
        quickest = min(seconds, key=lambda threads: seconds[threads])
        self._progress.note(f"{quickest} of {self._most} threads (a step with {times})")
        return quickest

    def _timed(self, threads: int, rehearse: Callable[[], None], best: float) -> float:
        """Median seconds of a step; of the first ones alone where they are far from ``best``."""
        torch.set_num_threads(threads)
        rehearse()
        durations = []
        for _ in range(_TRIALS):
            began = self._clock()
            rehearse()
            durations.append(self._clock() - began)
            if durations[-1] >= _SLOW * best:
                break
        return statistics.median(durations)
