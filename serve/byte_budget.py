"""The bytes that all requests hold together, and who gives way when they are too many."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .request_refusal import RequestRefusal, overloaded

PACE = 1 << 16  # bytes: a body has stalled where it does not bring so many in a while
_STALLED = 1.0  # seconds without PACE bytes after which a request gives way


class ByteBudget:
    """Bytes of all requests that are being received or computed: what came, not what is to come.

    Where they would be more than ``limit``, a request gives way that is still being received: one
    that has stalled, or else one of a client that holds more than the client that needs room. Among
    several it is the one that holds most. ``now`` tells the time in seconds.
    """

    def __init__(self, limit: int, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.now = now
        self.used = 0
        self._shares: set[Share] = set()

    @contextmanager
    def share(self, client: str) -> Iterator[Share]:
        """A request's share, empty at first; ``client`` is the address that it comes from."""
        share = Share(self, client)
        self._shares.add(share)
        try:
            yield share
        finally:
            self._shares.discard(share)
            self.used -= share.count

    def make_room(self, share: Share, growth: int) -> bool:
        """Whether ``growth`` bytes more for ``share`` fit, after others gave way."""
        while self.used + growth > self.limit and self.used > share.count:
            yielding = self._yielding(share, growth)
            if yielding is None:
                return False
            yielding.give_way()
        return True

    def _yielding(self, share: Share, growth: int) -> Share | None:
        receiving = [peer for peer in self._shares - {share} if peer.count and peer.timer]
        stalled = [peer for peer in receiving if self.now() - peer.progressed > _STALLED]
        if stalled:
            return max(stalled, key=lambda peer: peer.count)
        holding: Counter[str] = Counter()
        for peer in self._shares:
            holding[peer.client] += peer.count
        fair = holding[share.client] + growth
        greedy = [peer for peer in receiving if holding[peer.client] > fair]
        return max(greedy, key=lambda peer: (holding[peer.client], peer.count), default=None)


class Share:
    """One request's bytes of a budget.

    While its body is being received, ``timer`` is what ends the wait for it.
    """

    def __init__(self, budget: ByteBudget, client: str) -> None:
        self._budget = budget
        self.client = client
        self.count = 0
        self.progressed = budget.now()  # when it last had PACE bytes more
        self._paced = 0
        self.timer: asyncio.Timeout | None = None
        self.gave_way = False

    def grow(self, count: int) -> bool:
        """Hold ``count`` bytes; whether PACE bytes more have come. Raises RequestRefusal (503)."""
        growth = count - self.count
        if self.gave_way or not self._budget.make_room(self, growth):
            raise self.refusal()
        self.count = count
        self._budget.used += growth
        paced = count // PACE > self._paced
        if paced:
            self._paced = count // PACE
            self.progressed = self._budget.now()
        return paced

    def give_way(self) -> None:
        """Give the bytes back and end the wait for more."""
        self.gave_way = True
        self._budget.used -= self.count
        self.count = 0
        if self.timer is not None and not self.timer.expired():
            self.timer.reschedule(asyncio.get_running_loop().time())

    def refusal(self) -> RequestRefusal:
        """503 for want of room."""
        used = self._budget.used - self.count
        return overloaded(
            "bytes_in_flight", f"{used} bytes of other requests are in work: try later"
        )
