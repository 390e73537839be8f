"""Two bundles measured in one process, a request of each in turn: what differs is not the machine.

A stage is timed right after a run of itself that is not timed. So what came before it, a pause that
let the caches and the clock cool down for example, is in `end_to_end` but not in its own figure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..bundle.picture import open_picture
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle, open_bundle
from ..errors import MldrError
from ..runtimes.runtime import Runtime, RuntimeOptions
from ..runtimes.runtime_choice import Candidate, candidates, prove_golden
from .change import LEVEL, THRESHOLD, changed_in_pairs, judged_together
from .clock import Clock, WallClock
from .closed_loop import calls_of, warm_up
from .profile_config import ProfileConfig
from .request_stages import LIMITS, STAGES, Requests, golden_requests, request
from .two_reports import ComparedFigure, ReportComparison

Result = TypeVar("Result")
Times = dict[str, int]  # stage, or end_to_end -> ns
Series = dict[tuple[int, str], list[list[int]]]  # (batch, stage) -> rounds of samples, ns
_METHOD = (
    f"Test: Student's {100 * LEVEL:.0f} % interval of the ratio over paired rounds, all figures "
    f"judged together (Benjamini-Hochberg); changes under {100 * THRESHOLD:.0f} % are not called "
    "changes. Stages are timed apart, end to end in one go."
)


def compare_bundles(
    before: Path,
    after: Path,
    config: ProfileConfig,
    *,
    allow_failed: bool = False,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> ReportComparison:
    """Measure every file and runtime that both bundles have, side by side.

    Raises MldrError for a bundle that is damaged or failed its gates and where there is none.
    """
    progress, clock = progress or Silent(), clock or WallClock()
    bundles = [open_bundle(path, allow_failed=allow_failed) for path in (before, after)]
    both = _in_both(bundles, config)
    if not both:
        raise MldrError("the two bundles have no file and runtime in common that run here")
    rows: list[ComparedFigure] = []
    progress.start("measuring side by side", len(both) * config.rounds)
    for name, pair in both.items():
        series: tuple[Series, Series] = (defaultdict(list), defaultdict(list))
        for _ in range(config.rounds):
            _round(bundles, pair, config, clock, series)
            progress.advance()
        rows += _figures(name, series)
    progress.finish()
    changes = judged_together([row.change for row in rows])
    rows = [
        ComparedFigure(row.entry, row.series, change)
        for row, change in zip(rows, changes, strict=True)
    ]
    return ReportComparison(rows, method=_METHOD)


def settled_request(runtime: Runtime, files: list[bytes], time_ns: Callable[[], int]) -> Times:
    """Times of one request: end to end, then of each stage right after a run of that stage."""
    marks = request(runtime, files, time_ns)
    times = {"end_to_end": marks[-1] - marks[0]}

    def timed(stage: str, work: Callable[[], Result]) -> Result:
        work()
        begin = time_ns()
        result = work()
        times[stage] = time_ns() - begin
        return result

    images = timed("decode", lambda: [open_picture(file, LIMITS) for file in files])
    inputs = timed("preprocess", lambda: runtime.preprocess(images))
    timed("host_to_device", lambda: runtime.feed(inputs))
    timed("compute", runtime.compute)
    timed("device_to_host", runtime.fetch)
    return times


def alternate(
    calls: tuple[Callable[[int], Times], Callable[[int], Times]],
    seconds: float,
    iterations: int,
    clock: Clock,
) -> tuple[list[Times], list[Times]]:
    """Times of the two ``calls``, in turn; who begins changes with every request."""
    times: tuple[list[Times], list[Times]] = ([], [])
    until, k = clock.time_ns() + int(1e9 * seconds), 0
    while k < iterations or clock.time_ns() < until:
        for side in (k % 2, 1 - k % 2):
            times[side].append(calls[side](k))
        k += 1
    return times


def _in_both(bundles: list[Bundle], config: ProfileConfig) -> dict[str, list[Candidate]]:
    first, second = (
        {c.name: c for c in candidates(bundle, config.artifact, config.runtimes)}
        for bundle in bundles
    )
    return {name: [first[name], second[name]] for name in first if name in second}


def _round(
    bundles: list[Bundle],
    pair: list[Candidate],
    config: ProfileConfig,
    clock: Clock,
    series: tuple[Series, Series],
) -> None:
    """Load both anew, warm up and measure; ``series`` gets the samples."""
    options = RuntimeOptions(threads=config.threads)
    largest = min(bundle.manifest.max_batch for bundle in bundles)
    with ExitStack() as stack:
        runtimes = []
        for bundle, candidate in zip(bundles, pair, strict=True):
            create = candidate.kind.create(bundle, candidate.artifact, options)
            runtimes.append(stack.enter_context(create))
            prove_golden(bundle, runtimes[-1])
        files = golden_requests(bundles[0], config.encoding)  # the same for both
        for batch in sorted({1, *(b for b in config.batches if b <= largest)}):
            for runtime in runtimes:
                warm_up(calls_of(runtime, files, batch, clock), config.warm_up_seconds)
            first, second = (_call(runtime, files, batch, clock) for runtime in runtimes)
            seconds, iterations = config.share()
            times = alternate((first, second), seconds, iterations, clock)
            for side, samples in zip(series, times, strict=True):
                for stage in ("end_to_end", *STAGES):
                    side[batch, stage].append([sample[stage] for sample in samples])


def _call(runtime: Runtime, files: Requests, batch: int, clock: Clock) -> Callable[[int], Times]:
    return lambda k: settled_request(runtime, files(k, batch), clock.time_ns)


def _figures(name: str, series: tuple[Series, Series]) -> Iterator[ComparedFigure]:
    before, after = series
    for batch, stage in before:
        for percent in (50, 99) if stage in ("end_to_end", "compute") else (50,):
            label = f"batch {batch} {stage.replace('_', ' ')} p{percent}"
            rounds = [[np.array(r) for r in side[batch, stage]] for side in (before, after)]
            yield ComparedFigure(name, label, changed_in_pairs(rounds[0], rounds[1], percent))
