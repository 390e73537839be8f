"""The queue between event loop and runtime: order, bounds, deadlines, failures, the end."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mldr_deploy.runtimes.runtime import RunError
from mldr_deploy.serve.batch_cost import BatchCost
from mldr_deploy.serve.batcher import Batcher, BatchTimes
from mldr_deploy.serve.request_refusal import RequestRefusal


class Fake:
    """Logits [n, 1]: the sum of each image. ``gate`` holds every computation until it is set."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(preprocessing=SimpleNamespace(size=(2, 2)))
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.fails: Exception | None = None

    def feed(self, inputs: Any) -> None:
        self.fed = inputs.copy()

    def compute(self) -> None:
        self.batches.append(len(self.fed))
        assert self.gate.wait(20)
        if self.fails is not None:
            raise self.fails

    def fetch(self) -> Any:
        return self.fed.sum(axis=(1, 2, 3))[:, None]


def image(value: float, n: int = 1) -> Any:
    return np.full((n, 3, 2, 2), value / 12, np.float32)


def run(
    body: Callable[[Batcher, Fake], Coroutine[Any, Any, None]], **options: Any
) -> tuple[Fake, list[BatchTimes]]:
    fake, seen = Fake(), []
    options = {"max_batch": 4, "max_queue": 8, **options}
    batcher = Batcher(fake, on_batch=seen.append, **options)  # type: ignore[arg-type]

    async def whole() -> None:
        batcher.start()
        try:
            await asyncio.wait_for(body(batcher, fake), 30)
        finally:
            fake.gate.set()
            await asyncio.to_thread(batcher.close)

    asyncio.run(whole())
    return fake, seen


def later() -> float:
    return asyncio.get_running_loop().time() + 20


async def started(fake: Fake, count: int = 1) -> None:
    while len(fake.batches) < count:
        await asyncio.sleep(0.001)


def measured(seconds: float) -> BatchCost:
    """An image takes ``seconds``."""
    cost = BatchCost()
    cost.add(1, seconds)
    return cost


def test_everyone_gets_his_own_rows_and_batches_fill_while_one_computes() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        fake.gate.clear()
        first = asyncio.create_task(batcher.submit(image(1), later()))
        await started(fake)
        sizes = [1, 2, 1, 1]
        rest = [
            asyncio.create_task(batcher.submit(image(10 + k, n), later()))
            for k, n in enumerate(sizes)
        ]
        await asyncio.sleep(0.01)
        assert batcher.waiting == 5
        fake.gate.set()
        assert np.allclose((await first).logits, 1)
        for k, answer in enumerate(await asyncio.gather(*rest)):
            assert answer.logits.shape == (sizes[k], 1) and np.allclose(answer.logits, 10 + k)
        assert batcher.waiting == 0

    fake, seen = run(body)
    assert fake.batches == [1, 4, 1]  # 1 + 2 + 1 fill four; the last did not fit
    assert [times.images for times in seen] == [1, 4, 1]


def test_a_request_that_does_not_fit_waits_whole() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        fake.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(image(0), later()))]
        await started(fake)
        tasks += [asyncio.create_task(batcher.submit(image(0, n), later())) for n in (3, 4, 1)]
        await asyncio.sleep(0.01)
        fake.gate.set()
        await asyncio.gather(*tasks)

    assert run(body)[0].batches == [1, 3, 4, 1]


def test_a_full_queue_refuses_at_once_and_says_when() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        await batcher.submit(image(0), later())
        batcher._queue.cost = measured(0.6)
        fake.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(image(0), later()))]
        await started(fake, 2)
        tasks += [asyncio.create_task(batcher.submit(image(0, 4), later())) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(RequestRefusal, match="images waiting: 8, at most 8:") as refusal:
            await batcher.submit(image(0), later())
        assert (refusal.value.status, refusal.value.reason) == (503, "queue_full")
        assert refusal.value.headers == {"Retry-After": "5"}  # 8 images at 0.6 s each
        fake.gate.set()
        assert len(await asyncio.gather(*tasks)) == 3

    run(body)


def test_the_deadline_answers_even_while_the_runtime_hangs() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        fake.gate.clear()
        soon = asyncio.get_running_loop().time() + 0.05
        computing = asyncio.create_task(batcher.submit(image(1), soon))
        await started(fake)
        queued = asyncio.create_task(batcher.submit(image(2), soon))
        for task in (computing, queued):
            with pytest.raises(RequestRefusal, match="not answered in time") as refusal:
                await task
            assert refusal.value.status == 503 and refusal.value.retry_after == 1
        fake.gate.set()
        assert np.allclose((await batcher.submit(image(3), later())).logits, 3)

    assert run(body)[0].batches == [1, 1]  # nobody waited for the second: not computed


def test_what_would_be_late_is_refused_at_once_and_what_became_late_is_not_computed() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        fake.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(image(0), later()))]
        await started(fake)
        tasks += [asyncio.create_task(batcher.submit(image(k), later())) for k in (1, 2)]
        await asyncio.sleep(0.01)
        batcher._queue.cost = measured(5.0)
        with pytest.raises(RequestRefusal, match="images waiting: 2, too many") as refusal:
            await batcher.submit(image(0, 4), later())  # 6 images of 5 s each, in 20 s
        assert (refusal.value.status, refusal.value.reason) == (503, "deadline")
        assert refusal.value.retry_after == 10
        with pytest.raises(RequestRefusal, match="too many"):
            batcher.require_time(14)
        batcher.require_time(16)
        batcher._queue.cost = measured(1000.0)
        fake.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[1], RequestRefusal) and answers[1].reason == "deadline"
        for k in (0, 2):  # the last is tried, for estimates may be wrong
            answer = answers[k]
            assert not isinstance(answer, BaseException) and np.allclose(answer.logits, k)
        assert np.allclose((await batcher.submit(image(9), later())).logits, 9)

    assert run(body)[0].batches == [1, 1, 1]


def test_what_was_answered_is_kept_no_longer() -> None:
    """Not even until its deadline: that is 10 s of everybody's images."""

    async def body(batcher: Batcher, fake: Fake) -> None:
        inputs = image(1)
        held = weakref.ref(inputs)
        await batcher.submit(inputs, later())
        del inputs
        await batcher.submit(image(2), later())  # the thread holds its last batch until the next
        gc.collect()
        assert held() is None

    run(body)


def test_the_time_of_an_image_follows_the_runtime() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        await batcher.submit(image(0), later())
        before = batcher._queue.cost.seconds(1)
        fake.gate.clear()
        task = asyncio.create_task(batcher.submit(image(0), later()))
        await started(fake, 2)
        await asyncio.sleep(20 * before + 0.05)
        fake.gate.set()
        await task
        assert batcher._queue.cost.seconds(1) > 1.5 * before

    run(body)


def test_a_failing_runtime_fails_its_batch_only() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        for error in (RunError("broken"), ValueError("a bug")):
            fake.fails = error
            with pytest.raises((RequestRefusal, ValueError), match=str(error)):
                await batcher.submit(image(1), later())
        fake.fails = None
        assert np.allclose((await batcher.submit(image(3), later())).logits, 3)

    run(body)


def test_a_batch_lingers_for_more_but_not_longer_than_told() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        tasks = []
        for _ in range(4):
            tasks.append(asyncio.create_task(batcher.submit(image(0), later())))
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks)  # full: does not wait for the rest of the delay

    fake, _ = run(body, max_delay=20.0)
    assert fake.batches == [4]

    async def alone(batcher: Batcher, fake: Fake) -> None:
        await batcher.submit(image(0), later())

    assert run(alone, max_delay=0.02)[0].batches == [1]


def test_closing_computes_what_waits_and_takes_no_more() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        fake.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(image(k), later())) for k in range(6)]
        await started(fake)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        while batcher.alive:
            await asyncio.sleep(0.001)
        with pytest.raises(RequestRefusal, match="stopping"):
            await batcher.submit(image(0), later())
        fake.gate.set()
        await closing
        assert [round(float(a.logits[0, 0])) for a in await asyncio.gather(*tasks)] == [*range(6)]

    run(body)


def test_nobody_waits_for_a_cancelled_request() -> None:
    async def body(batcher: Batcher, fake: Fake) -> None:
        fake.gate.clear()
        first = asyncio.create_task(batcher.submit(image(1), later()))
        await started(fake)
        gone = asyncio.create_task(batcher.submit(image(2), later()))
        kept = asyncio.create_task(batcher.submit(image(3, 4), later()))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        fake.gate.set()
        assert np.allclose((await first).logits, 1) and np.allclose((await kept).logits, 3)

    assert run(body)[0].batches == [1, 4]
