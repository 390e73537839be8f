"""Two bundles measured in one process, a request of each in turn: what differs is not the machine.

Whole requests are timed first, then each stage in a loop of its own, with nothing between its runs.
So what comes before it in a request, a pause that lets the caches and the clock cool down for
example, is in `end_to_end` but not in its own figure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

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
from .request_stages import LIMITS, Requests, golden_requests, request
from .two_reports import ComparedFigure, ReportComparison, only_in, too_few

Call = Callable[[int], object]  # of number k
Series = dict[tuple[int, str], list[list[int]]]  # (batch, stage) -> rounds of samples, ns
_DISTINCT = 4  # requests whose stages are timed apart
_SETTLING_NS = 20_000_000  # of a loop before its first sample
_SETTLING_RUNS = 3, 1000  # at least and at most
_METHOD = (
    f"Test: Student's {100 * LEVEL:.0f} % interval of the ratio over paired rounds, all figures "
    f"judged together (Benjamini-Hochberg); changes under {100 * THRESHOLD:.0f} % are not called "
    "changes. Each stage is timed in a loop of its own, end to end in one go."
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
    """Measure every file and runtime that both bundles have, side by side; notes name the others.

    Raises MldrError for a bundle that is damaged or failed its gates and where there is none.
    """
    progress, clock = progress or Silent(), clock or WallClock()
    bundles = [open_bundle(path, allow_failed=allow_failed) for path in (before, after)]
    first, second = (
        {c.name: c for c in candidates(bundle, config.artifact, config.runtimes)}
        for bundle in bundles
    )
    both = {name: [first[name], second[name]] for name in first if name in second}
    if not both:
        raise MldrError("the two bundles have no file and runtime in common that run here")
    notes = [*only_in(first, second), *too_few(config.rounds)]
    rows: list[ComparedFigure] = []
    progress.start("measuring side by side", len(both) * config.rounds)
    for name, pair in both.items():
        series: tuple[Series, Series] = (defaultdict(list), defaultdict(list))
        for number in range(config.rounds):
            _round(number, bundles, pair, config, clock, series)
            progress.advance()
        rows += _figures(name, series)
    progress.finish()
    changes = judged_together([row.change for row in rows])
    rows = [
        ComparedFigure(row.entry, row.series, change)
        for row, change in zip(rows, changes, strict=True)
    ]
    return ReportComparison(rows, notes, _METHOD)


def stage_calls(runtime: Runtime, requests: Requests, batch: int) -> dict[str, Call]:
    """What is timed of a loaded ``runtime``: whole requests, then every stage by itself.

    A stage's inputs are ready; it may be run as often as one likes.
    """
    files = [requests(k, batch) for k in range(_DISTINCT)]
    images = [_decoded(part) for part in files]
    inputs = [runtime.preprocess(part) for part in images]
    request(runtime, files[0], lambda: 0)  # so that there is something to compute and to fetch
    return {
        "end_to_end": lambda k: request(runtime, requests(k, batch), lambda: 0),
        "decode": lambda k: _decoded(files[k % _DISTINCT]),
        "preprocess": lambda k: runtime.preprocess(images[k % _DISTINCT]),
        "host_to_device": lambda k: runtime.feed(inputs[k % _DISTINCT]),
        "compute": lambda k: runtime.compute(),
        "device_to_host": lambda k: runtime.fetch(),
    }


def alternate(
    calls: tuple[Call, Call], seconds: float, iterations: int, clock: Clock
) -> tuple[list[int], list[int]]:
    """Nanoseconds of the two ``calls``, in turn; who begins changes every time.

    The first ones are not timed, until ``clock`` has gone on by what a cooled core takes.
    """
    times: tuple[list[int], list[int]] = ([], [])
    settled, k = clock.time_ns() + _SETTLING_NS, 0
    least, most = _SETTLING_RUNS
    while k < least or (k < most and clock.time_ns() < settled):
        for side in (k % 2, 1 - k % 2):
            calls[side](k)
        k += 1
    until, k = clock.time_ns() + int(1e9 * seconds), 0
    while k < iterations or clock.time_ns() < until:
        for side in (k % 2, 1 - k % 2):
            begin = clock.time_ns()
            calls[side](k)
            times[side].append(clock.time_ns() - begin)
        k += 1
    return times


def _decoded(files: list[bytes]) -> list[Image.Image]:
    return [open_picture(file, LIMITS) for file in files]


def _round(
    number: int,
    bundles: list[Bundle],
    pair: list[Candidate],
    config: ProfileConfig,
    clock: Clock,
    series: tuple[Series, Series],
) -> None:
    """Load both anew, warm up and measure; ``series`` gets the samples.

    Who is loaded first changes with ``number``: where a session lies in memory is a matter of that,
    and worth some per cent.
    """
    options = RuntimeOptions(threads=config.threads)
    largest = min(bundle.manifest.max_batch for bundle in bundles)
    with ExitStack() as stack:
        loaded: dict[int, Runtime] = {}
        for which in (number % 2, 1 - number % 2):
            create = pair[which].kind.create(bundles[which], pair[which].artifact, options)
            loaded[which] = stack.enter_context(create)
            prove_golden(bundles[which], loaded[which])
        runtimes = loaded[0], loaded[1]
        files = golden_requests(bundles[0], config.encoding)  # the same for both
        for batch in sorted({1, *(b for b in config.batches if b <= largest)}):
            for runtime in runtimes:
                warm_up(calls_of(runtime, files, batch, clock), config.warm_up_seconds)
            first, second = (stage_calls(runtime, files, batch) for runtime in runtimes)
            seconds, iterations = config.share()
            for stage in first:
                pair_of_calls = first[stage], second[stage]
                times = alternate(pair_of_calls, seconds / len(first), iterations, clock)
                for side, samples in zip(series, times, strict=True):
                    side[batch, stage].append(samples)


def _figures(name: str, series: tuple[Series, Series]) -> Iterator[ComparedFigure]:
    before, after = series
    for batch, stage in before:
        for percent in (50, 99) if stage in ("end_to_end", "compute") else (50,):
            label = f"batch {batch} {stage.replace('_', ' ')} p{percent}"
            rounds = [[np.array(r) for r in side[batch, stage]] for side in (before, after)]
            yield ComparedFigure(name, label, changed_in_pairs(rounds[0], rounds[1], percent))
