"""Requests of any size -> batches for one runtime: a bounded queue and one thread that computes.

The thread takes whatever waits, up to ``max_batch`` images, as soon as the runtime is free: under
light load a request is alone and waits for nobody, under heavy load batches fill by themselves.
What cannot be answered in time is not computed; ``RequestQueue`` decides.
n images of a request, B of a batch, C classes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..bundle.preprocess import Floats
from ..errors import MldrError
from ..runtimes.runtime import Runtime
from .request_queue import QueuedRequest, RequestQueue
from .request_refusal import RequestRefusal, overloaded


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """One computed batch; seconds."""

    images: int
    host_to_device: float
    compute: float
    device_to_host: float


@dataclass(frozen=True, slots=True)
class BatchedLogits:
    """One request's logits [n, C], its wait in the queue and the times of its batch."""

    logits: Floats
    queued: float  # seconds
    batch: BatchTimes


class Batcher:
    """Between the event loop and the runtime. ``start`` it, ``await submit(...)``, ``close`` it."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        max_batch: int,
        max_queue: int,
        max_delay: float = 0.0,
        on_batch: Callable[[BatchTimes], None] = lambda times: None,
    ) -> None:
        self.max_batch = max_batch
        self.max_queue = max_queue
        self.max_delay = max_delay
        self._runtime = runtime
        self._on_batch = on_batch
        self._queue = RequestQueue(max_batch, max_queue)  # of time.perf_counter(), under _changed
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="runtime", daemon=True)

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._queue.images

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._closing

    def start(self) -> None:
        """Start computing; call it inside the running event loop."""
        self._loop = asyncio.get_running_loop()
        spec = self._runtime.model.preprocessing
        assert spec is not None  # a bundle's file has it
        self._buffer: Floats = np.zeros((self.max_batch, 3, *spec.size), np.float32)
        self._thread.start()

    async def submit(self, inputs: Floats, deadline: float) -> BatchedLogits:
        """Logits of ``inputs`` [n, 3, H, W], n at most ``max_batch``.

        ``deadline`` is on the loop's clock. Raises RequestRefusal: 503 when the queue is full or
        too long for the deadline, or the deadline passes first; 500 when the runtime fails.
        """
        future: asyncio.Future[BatchedLogits] = self._loop.create_future()
        now = time.perf_counter()
        request = QueuedRequest(inputs, future, now, now + deadline - self._loop.time())
        with self._changed:
            if self._closing:
                raise overloaded("stopping", "the service is stopping: ask another one")
            self._queue.put(request, now)
            self._changed.notify()
        timer = self._loop.call_at(deadline, self._expire, request)
        try:
            return await future
        finally:
            timer.cancel()

    def require_time(self, left: float) -> None:
        """Raises RequestRefusal (503) when an image with ``left`` seconds would not be let in."""
        with self._changed:
            self._queue.require_place(1, left, time.perf_counter())

    def retry_after(self) -> int:
        """Whole seconds until the images in the queue should be answered."""
        return self._queue.retry_after()

    def close(self) -> None:
        """Compute the queued requests, then stop; blocks until the thread has ended."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _expire(self, request: QueuedRequest) -> None:
        if not request.future.done():
            request.future.set_exception(
                overloaded("deadline", "not answered in time: try again later", self.retry_after())
            )

    def _work(self) -> None:
        while batch := self._take():
            began = time.perf_counter()
            try:
                logits, times = self._compute(batch)
            except MldrError as error:
                refusal = RequestRefusal(500, "runtime", str(error))
                self._loop.call_soon_threadsafe(_fail, batch, refusal)
                continue
            except BaseException as error:
                self._loop.call_soon_threadsafe(_fail, batch, error)
                continue
            with self._changed:
                self._queue.cost.add(times.images, time.perf_counter() - began)
            self._loop.call_soon_threadsafe(self._deliver, batch, logits, times, began)

    def _take(self) -> list[QueuedRequest]:
        """Requests of the next batch, at least one; none when closed and empty."""
        with self._changed:
            self._queue.rest(time.perf_counter())
            batch: list[QueuedRequest] = []
            while not batch:
                while self._queue.oldest is None and not self._closing:
                    self._changed.wait()
                if self._queue.oldest is None:
                    return []
                self._linger(self._queue.oldest)
                batch, late = self._queue.pop(time.perf_counter())
                for request in late:
                    self._loop.call_soon_threadsafe(self._expire, request)
            return batch

    def _linger(self, oldest: QueuedRequest) -> None:
        """Wait for a full batch until ``oldest`` has waited ``max_delay``."""
        until = oldest.arrived + self.max_delay
        while self._queue.images < self.max_batch and not self._closing:
            remaining = until - time.perf_counter()
            if remaining <= 0:
                return
            self._changed.wait(remaining)

    def _compute(self, batch: list[QueuedRequest]) -> tuple[Floats, BatchTimes]:
        images = 0
        for request in batch:
            self._buffer[images : images + len(request.inputs)] = request.inputs
            images += len(request.inputs)
        start = time.perf_counter()
        self._runtime.feed(self._buffer[:images])
        fed = time.perf_counter()
        self._runtime.compute()
        computed = time.perf_counter()
        logits = self._runtime.fetch()
        fetched = time.perf_counter()
        return logits, BatchTimes(images, fed - start, computed - fed, fetched - computed)

    def _deliver(
        self, batch: list[QueuedRequest], logits: Floats, times: BatchTimes, began: float
    ) -> None:
        self._on_batch(times)
        row = 0
        for request in batch:
            n = len(request.inputs)
            if not request.future.done():
                request.future.set_result(
                    BatchedLogits(logits[row : row + n], began - request.arrived, times)
                )
            row += n


def _fail(batch: list[QueuedRequest], error: BaseException) -> None:
    for request in batch:
        if not request.future.done():
            request.future.set_exception(error)
