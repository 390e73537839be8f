"""Who waits for the runtime, who is let in and who is computed next.

Times are seconds of the clock that the caller reads. n images of a request.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from ..bundle.preprocess import Floats
from .batch_cost import BatchCost
from .request_refusal import overloaded

_SHARE = 0.6  # of the time left that a batch may take, for estimates are no promises
_UNMEASURED = 1.0  # seconds that an image is taken to need in the first batch


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """A request in the queue."""

    inputs: Floats  # [n, 3, H, W]
    future: asyncio.Future[Any]
    arrived: float
    deadline: float  # when it must be answered

    @property
    def images(self) -> int:
        """n."""
        return len(self.inputs)


class RequestQueue:
    """Requests, oldest first, bounded in images and in time. Its user locks it.

    Refusing early keeps the throughput under overload: a request that is computed and then late has
    cost the others their time. A burst may fill all the time there is. When something has waited
    for longer than that, half of it is for waiting, so that the batches stay large. While nothing
    waits and nothing is computed any request is let in, whatever the estimates say: there is
    always something to measure.
    """

    def __init__(self, max_batch: int, max_images: int) -> None:
        self.max_batch = max_batch
        self.max_images = max_images
        self.cost = BatchCost()
        self.images = 0
        self._requests: deque[QueuedRequest] = deque()
        self._drained = -math.inf  # when last nothing waited
        self._computed_at: float | None = None  # when the batch of now should be over; None: none

    @property
    def oldest(self) -> QueuedRequest | None:
        """The request that waits longest."""
        return self._requests[0] if self._requests else None

    def put(self, request: QueuedRequest, now: float) -> None:
        """Let ``request`` in. Raises RequestRefusal (503) as ``require_place`` does."""
        self.require_place(request.images, request.deadline - now, now)
        self._requests.append(request)
        self.images += request.images

    def require_place(self, images: int, left: float, now: float) -> None:
        """Raises RequestRefusal (503): full, or too long for who has ``left`` seconds."""
        if self.images + images > self.max_images:
            raise overloaded(
                "queue_full",
                f"images waiting: {self.images}, at most {self.max_images}: try again later",
                self.retry_after(),
            )
        if self._computed_at is None and not self._requests:
            self._drained = now
            return
        wait = self._seconds(self.images + images)
        if self._computed_at is not None:
            wait += max(0.0, self._computed_at - now)
        overload = now - self._drained > left
        if wait > (left / 2 if overload else left):
            raise overloaded(
                "deadline",
                f"images waiting: {self.images}, too many for an answer in time: try again later",
                self.retry_after(),
            )

    def retry_after(self) -> int:
        """Whole seconds until the images in the queue should be answered."""
        return min(max(1, math.ceil(self._seconds(self.images))), 3600)

    def pop(self, now: float) -> tuple[list[QueuedRequest], list[QueuedRequest]]:
        """(the next batch, requests that are dropped because they would be late).

        The batch are the oldest requests, as many as fit and leave each of them time to spare. One
        is tried though it may be late when otherwise nothing would be.
        """
        batch: list[QueuedRequest] = []
        late: list[QueuedRequest] = []
        images, earliest = 0, math.inf
        while self._requests:
            request = self._requests[0]
            if not request.future.done():
                soonest = min(earliest, request.deadline)
                if batch and not self._fits(images + request.images, soonest - now):
                    break
                if self.cost.seconds(request.images) > request.deadline - now:
                    late.append(request)
                else:
                    batch.append(request)
                    images, earliest = images + request.images, soonest
            self._requests.popleft()
            self.images -= request.images
        if not batch and late:
            batch.append(late.pop())
        if batch:
            images = sum(request.images for request in batch)
            self._computed_at = now + self.cost.seconds(images)
        return batch, late

    def _fits(self, images: int, left: float) -> bool:
        """Whether a batch of ``images`` leaves time to spare to who has ``left`` seconds."""
        seconds = self.cost.seconds(images) if self.cost.measured else images * _UNMEASURED
        return images <= self.max_batch and seconds <= _SHARE * left

    def rest(self, now: float) -> None:
        """The batch that was popped is over."""
        self._computed_at = None
        if not self._requests:
            self._drained = now

    def _seconds(self, images: int) -> float:
        """What ``images`` take in full batches and a rest."""
        full, rest = divmod(images, self.max_batch)
        seconds = full * self.cost.seconds(self.max_batch)
        return seconds + (self.cost.seconds(rest) if rest else 0.0)
