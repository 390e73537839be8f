"""A first idea of the cost of a call; percentiles are the profiler's matter."""

from __future__ import annotations

import contextlib
import statistics

from ..bundle.latency import Latency
from ..bundle.preprocess import Floats
from ..bundle.processor import processor, usable_cores
from ..bundle.timing import in_turns
from ..errors import Unavailable
from ..runtimes.runtime import Predictor, Runtime


def milliseconds_per_image(
    runner: Predictor, images: Floats, batch: int, *, seconds: float = 1.0
) -> float:
    """Median time of a call on ``batch`` of the real inputs ``images`` [N, 3, H, W], per image."""
    (rounds,) = in_turns([runner], [images], batch, seconds=seconds)
    return statistics.median(rounds)


def latencies(
    runners: dict[str, Runtime], images: Floats, batch: int, *, seconds: float, threads: int
) -> dict[str, Latency]:
    """Latency of every one of ``runners``, not yet entered, by the same names.

    One whose library is not on this machine has none.
    """
    with contextlib.ExitStack() as stack:
        entered: dict[str, Runtime] = {}
        for name, runner in runners.items():
            with contextlib.suppress(Unavailable):
                entered[name] = stack.enter_context(runner)
        ready = [*entered.values()]
        inputs = [images] * len(ready)
        single = in_turns(ready, inputs, 1, seconds=seconds)
        large = in_turns(ready, inputs, batch, seconds=seconds)
    return {
        name: Latency(
            ms_single=statistics.median(single_rounds),
            ms_batch=statistics.median(batch_rounds),
            batch=batch,
            threads=threads or usable_cores(),
            machine=processor(),
            rounds_single=single_rounds,
            rounds_batch=batch_rounds,
        )
        for name, single_rounds, batch_rounds in zip(entered, single, large, strict=True)
    }
