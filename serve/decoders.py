"""Threads that decode beside the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from .request_refusal import overloaded

Result = TypeVar("Result")

_KEPT = 0.8  # weight that a decode keeps when another one is measured


class Decoders:
    """``await run(work, deadline)``; nobody waits beyond his deadline.

    Work that would be late is not begun, or under overload all of it would be late. In the first
    half of its time it always is, whatever the one before took. ``waiting`` counts what is
    accepted and not over; ``clock`` is in seconds.
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.waiting = 0
        self._clock = clock
        self._seconds = 0.0  # of one decode, smoothed
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def stop(self) -> None:
        """Begin nothing more; what runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], Result], deadline: float) -> Result:
        """What ``work`` gives; ``deadline`` is on the loop's clock.

        Raises RequestRefusal (503) when the deadline passes, or would.
        """
        loop = asyncio.get_running_loop()
        given = deadline - loop.time()
        ends = self._clock() + given

        def work_in_time() -> Result:
            began = self._clock()
            if ends - began < min(2 * self._seconds, given / 2):
                raise _late()
            try:
                return work()
            finally:
                self._seconds = _KEPT * self._seconds + (1 - _KEPT) * (self._clock() - began)

        def over(future: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: the service ended first
                loop.call_soon_threadsafe(self._over)

        self.waiting += 1
        future = self._threads.submit(work_in_time)
        future.add_done_callback(over)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise _late() from None

    def _over(self) -> None:
        self.waiting -= 1


def _late() -> Exception:
    return overloaded("deadline", "not decoded in time: try again later")
