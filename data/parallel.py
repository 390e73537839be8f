"""Decoding on threads: Pillow releases the interpreter lock while it decodes and resizes.

Threads, not processes: nothing is pickled, nothing outlives a killed run, and no process is
forked after CUDA has started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Result]:
    """``map(function, items)`` on ``threads`` threads, at most ``ahead`` results in waiting.

    Results come in the order of ``items``; the first exception is raised at its item's place.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    queue = iter(items)
    waiting: deque[Future[Result]] = deque()
    try:
        waiting.extend(pool.submit(function, item) for item in islice(queue, max(ahead, 1)))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(queue, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
