"""Work beside the event loop: deadlines, overload, a loop that ended first."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mldr_deploy.serve.decoders import Decoders
from mldr_deploy.serve.request_refusal import RequestRefusal


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_would_be_decoded_late_is_not_begun() -> None:
    async def body() -> list[str]:
        clock, gate, begun = Clock(), threading.Event(), []
        decoders = Decoders(1, clock)

        def first() -> str:
            assert gate.wait(20)
            clock.now += 60.0  # that is how long it takes
            return "first"

        def second() -> str:
            begun.append("second")
            return "second"

        deadline = asyncio.get_running_loop().time() + 1000
        running = asyncio.create_task(decoders.run(first, deadline))
        hurried = asyncio.create_task(decoders.run(second, deadline - 930))  # 70 s, 10 of them left
        patient = asyncio.create_task(decoders.run(lambda: "patient", deadline))
        await asyncio.sleep(0)
        assert decoders.waiting == 3
        gate.set()
        assert await running == "first" and await patient == "patient"
        with pytest.raises(RequestRefusal, match="not decoded in time") as refusal:
            await hurried
        assert (refusal.value.status, refusal.value.reason) == (503, "deadline")
        await asyncio.sleep(0.01)
        assert decoders.waiting == 0
        # However long decoding took, work whose turn comes in the first half of its time is done.
        assert await decoders.run(second, asyncio.get_running_loop().time() + 1) == "second"
        decoders.stop()
        return begun

    assert asyncio.run(body()) == ["second"]


def test_the_deadline_answers_while_it_decodes() -> None:
    async def body() -> None:
        gate = threading.Event()
        decoders = Decoders(1)
        with pytest.raises(RequestRefusal, match="not decoded in time"):
            await decoders.run(lambda: gate.wait(20), asyncio.get_running_loop().time() + 0.01)
        gate.set()
        decoders.stop()

    asyncio.run(body())


def test_work_that_outlives_the_loop_ends_silently(caplog: pytest.LogCaptureFixture) -> None:
    gate, over = threading.Event(), threading.Event()

    def work() -> None:
        assert gate.wait(20)

    async def body() -> Decoders:
        decoders = Decoders(1)
        with pytest.raises(RequestRefusal):
            await decoders.run(work, asyncio.get_running_loop().time() + 0.01)
        return decoders

    decoders = asyncio.run(body())
    decoders._threads.submit(over.set)  # runs when the work and its callbacks are over
    gate.set()
    assert over.wait(20)
    assert not caplog.records
