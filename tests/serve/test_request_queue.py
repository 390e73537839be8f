"""Overload, by a clock of the test's own: the runtime takes ``fixed + n * each`` seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mldr_deploy.serve.request_queue import QueuedRequest, RequestQueue
from mldr_deploy.serve.request_refusal import RequestRefusal


def request(now: float, left: float, images: int = 1) -> QueuedRequest:
    """A request that nobody has given up."""
    future: Any = SimpleNamespace(done=lambda: False)
    return QueuedRequest(np.zeros((images, 3, 1, 1), np.float32), future, now, now + left)


@dataclass
class Overload:
    """What became of requests that arrive at ``arrivals`` (ascending), each with ``left`` s."""

    arrivals: list[float]
    left: float
    fixed: float
    each: float
    queue: RequestQueue = field(default_factory=lambda: RequestQueue(64, 256))
    outcomes: Counter[str] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)  # when

    def run(self, now: float = 1.0) -> Overload:
        todo = list(self.arrivals)
        while todo or self.queue.images:
            self.queue.rest(now)
            if not self.queue.images:
                now = max(now, todo[0])
            self._arrive(todo, now)
            batch, late = self.queue.pop(now)
            self.outcomes["dropped"] += len(late)
            seconds = self.fixed + self.each * len(batch)
            self._arrive(todo, now + seconds)
            now += seconds
            self.queue.cost.add(len(batch), seconds)
            for item in batch:
                self.outcomes["in time" if now <= item.deadline else "late"] += 1
                self.answered.append(now)
        return self

    def _arrive(self, todo: list[float], until: float) -> None:
        while todo and todo[0] <= until:
            when = todo.pop(0)
            try:
                self.queue.put(request(when, self.left), when)
            except RequestRefusal as refusal:
                assert refusal.status == 503 and refusal.retry_after
                self.outcomes[refusal.reason] += 1


def test_a_burst_that_is_too_large_is_answered_for_as_long_as_there_is_time() -> None:
    """Even the first one, when nothing is measured: 50 images fit into the 10 s."""
    outcomes = Overload([1.0] * 64, left=10.0, fixed=0.0, each=0.2).run().outcomes
    assert outcomes["in time"] >= 45 and outcomes["late"] <= 1
    assert sum(outcomes.values()) == 64


@pytest.mark.parametrize(
    ("left", "fixed", "each", "rate"),
    [(10.0, 0.0, 0.05, 40.0), (10.0, 1.0, 0.02, 60.0), (0.1, 0.005, 0.0002, 6000.0)],
)
def test_sustained_overload_is_answered_near_capacity_and_refused_at_once(
    left: float, fixed: float, each: float, rate: float
) -> None:
    span = 12 * left
    load = Overload([1 + k / rate for k in range(int(span * rate))], left, fixed, each).run()
    capacity = 64 / (fixed + 64 * each)
    second_half = [when for when in load.answered if span / 2 < when - 1 <= span]
    assert len(second_half) > 0.85 * capacity * span / 2
    assert load.outcomes["late"] + load.outcomes["dropped"] < 0.05 * load.outcomes["in time"]
    assert load.outcomes["deadline"] > 0.1 * span * rate


def test_light_load_is_let_in_whole_and_computed_at_once() -> None:
    queue = RequestQueue(64, 256)
    queue.cost.add(1, 0.05)
    for k in range(100):
        queue.rest(k)
        queue.put(request(k, 10.0), k)
        assert len(queue.pop(k)[0]) == 1


def test_a_wrong_estimate_mends_itself() -> None:
    """After a stall, a request is let in and tried whenever nothing else is."""
    queue = RequestQueue(64, 256)
    queue.cost.add(1, 1000.0)
    load = Overload([1 + k / 10 for k in range(200)], 10.0, 0.0, 0.01, queue).run()
    assert load.outcomes["in time"] > 150 and not load.outcomes["late"]


def test_when_everything_would_be_late_the_last_one_is_tried() -> None:
    queue = RequestQueue(4, 8)
    for left in (1.0, 2.0, 3.0):
        queue.put(request(1.0, left), 1.0)
    queue.cost.add(1, 50.0)
    batch, late = queue.pop(1.0)
    assert [item.deadline for item in batch] == [4.0]
    assert [item.deadline for item in late] == [2.0, 3.0] and queue.images == 0


def test_a_batch_ends_before_a_request_that_it_would_make_late() -> None:
    queue = RequestQueue(64, 256)
    for left in (100.0, 100.0, 4.0, 100.0):
        queue.put(request(1.0, left), 1.0)
    queue.cost.add(1, 1.0)
    assert len(queue.pop(1.0)[0]) == 2  # three would take 3 of the third one's 4 s
    assert len(queue.pop(3.0)[0]) == 1  # alone: it has 2 s left


def test_who_is_in_a_hurry_is_refused_and_others_are_not() -> None:
    queue = RequestQueue(64, 256)
    queue.cost.add(1, 1.0)
    queue.put(request(1.0, 10.0), 1.0)
    queue.pop(1.0)
    with pytest.raises(RequestRefusal, match="images waiting: 0, too many for an answer in time"):
        queue.put(request(1.5, 1.0), 1.5)  # 0.5 s until the batch is over, 1 s for itself
    queue.put(request(1.5, 1.6), 1.5)
