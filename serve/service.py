"""A loaded bundle that answers requests; the HTTP routes call it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from starlette.requests import Request

from ..bundle.manifest import Manifest
from ..bundle.picture import UnfitPicture
from ..bundle.preprocess import Floats
from ..bundle.processor import usable_cores
from ..runtimes.runtime import Runtime
from .batcher import BatchedLogits, Batcher, BatchTimes
from .byte_budget import ByteBudget, Share
from .decoders import Decoders, Result
from .multipart import file_part, is_form
from .protocol import InferRequest, parse_infer
from .request_refusal import RequestRefusal, overloaded
from .service_config import ServeConfig
from .service_metrics import Metrics
from .statistics import ModelStatistics
from .uploads import open_image, refused

VERSION = "1"
_INLINE = 1 << 16  # bytes of JSON that the event loop parses itself


@dataclass(frozen=True, slots=True)
class Prepared:
    """One upload, ready for the queue; seconds."""

    inputs: Floats  # [1, 3, H, W]
    decode: float
    preprocess: float


class Service:
    """Everything between a request's bytes and its logits.

    ``runtime`` is loaded and stays the caller's; ``replica`` names this one among several.
    ``start`` in the event loop, ``stop`` at the end.
    """

    def __init__(
        self,
        manifest: Manifest,
        runtime: Runtime,
        config: ServeConfig,
        replica: str | None = None,
    ) -> None:
        self.runtime = runtime
        self.replica = replica
        self.config = config
        self.manifest = manifest
        self.model = config.name or str(self.manifest.model.get("name", "student"))
        self.metrics = Metrics(replica)
        self.statistics = ModelStatistics(name=self.model, version=VERSION)
        self.budget = ByteBudget(config.max_in_flight)
        proven = self.manifest.max_batch
        self.max_batch = min(config.max_batch or proven, proven)
        self.batcher = Batcher(
            runtime,
            max_batch=self.max_batch,
            max_queue=max(config.max_queue, self.max_batch),
            max_delay=config.max_delay_ms / 1000,
            on_batch=self._computed,
        )
        self.metrics.queue.set_function(lambda: self.batcher.waiting)
        # Two at least, so that a large image does not hold up all others.
        self._decoders = Decoders(max(2, usable_cores()))

    @property
    def max_tensor(self) -> int:
        """Bytes of the largest binary request: a full batch and its JSON."""
        height, width = self.manifest.preprocessing.size
        return self.max_batch * 3 * height * width * 4 + (1 << 16)

    def start(self) -> None:
        """Start the batcher's thread."""
        self.batcher.start()

    async def stop(self) -> None:
        """Answer the accepted requests, then stop."""
        await asyncio.to_thread(self.batcher.close)
        self._decoders.stop()

    def deadline(self) -> float:
        """When a request whose last byte came now must be answered, on the loop's clock."""
        return asyncio.get_running_loop().time() + self.config.deadline

    def shortened(self, deadline: float, timeout: float) -> float:
        """``deadline`` of a request that gives the service ``timeout`` seconds; 0: all it takes."""
        return deadline - max(0.0, self.config.deadline - timeout) if timeout else deadline

    def share(self, request: Request) -> AbstractContextManager[Share]:
        """The bytes that ``request`` will hold."""
        return self.budget.share(request.client.host if request.client else "")

    def require_room(self) -> None:
        """Raises RequestRefusal (503) when the queue is full, or too long for an answer in time.

        That is before a request costs any work.
        """
        ahead = self._decoders.waiting + self.batcher.waiting
        try:
            if ahead >= self.batcher.max_queue:
                raise overloaded(
                    "queue_full",
                    f"requests waiting: {ahead}, try again later",
                    self.batcher.retry_after(),
                )
            self.batcher.require_time(self.config.deadline)
        except RequestRefusal:
            self.statistics.failed(0.0)
            raise

    async def parse(self, body: bytes, length: int | None, deadline: float) -> InferRequest:
        """An inference request. Raises RequestRefusal."""
        if length is not None or len(body) <= _INLINE:
            return parse_infer(body, length, self.manifest, self.max_batch)
        return await self._off_loop(
            lambda: parse_infer(body, None, self.manifest, self.max_batch), deadline
        )

    async def infer(self, inputs: Floats, deadline: float) -> BatchedLogits:
        """Logits. Raises RequestRefusal."""
        began = time.perf_counter()
        try:
            answer = await self.batcher.submit(inputs, deadline)
        except RequestRefusal:
            self.statistics.failed(time.perf_counter() - began)
            raise
        self.metrics.took("queue", answer.queued)
        self.statistics.succeeded(answer, time.perf_counter() - began)
        return answer

    async def prepare(self, body: bytes, content_type: str, deadline: float) -> Prepared:
        """An upload, decoded and preprocessed. Raises RequestRefusal."""
        prepared = await self._off_loop(lambda: self._prepare(body, content_type), deadline)
        self.metrics.took("decode", prepared.decode)
        self.metrics.took("preprocess", prepared.preprocess)
        return prepared

    def _prepare(self, body: bytes, content_type: str) -> Prepared:
        began = time.perf_counter()
        data = file_part(content_type, body) if is_form(content_type) else body
        image = open_image(data, self.config.max_pixels)
        decoded = time.perf_counter()
        try:
            inputs = self.runtime.preprocess([image])
        except UnfitPicture as error:
            raise refused(error) from None
        return Prepared(inputs, decoded - began, time.perf_counter() - decoded)

    async def _off_loop(self, work: Callable[[], Result], deadline: float) -> Result:
        """``work`` in a decoder thread; what waits for one is bounded like the queue."""
        self.require_room()
        return await self._decoders.run(work, deadline)

    def _computed(self, times: BatchTimes) -> None:
        self.metrics.computed(times)
        self.statistics.computed(times)
