"""Percentiles, stages, warm-up and arrivals, against numpy, known times and queueing theory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.profiler.clock import WallClock
from mldr_deploy.profiler.closed_loop import calls_of, measure, warm_up
from mldr_deploy.profiler.open_loop import schedule, serve_arrivals
from mldr_deploy.profiler.percentiles import PERCENTILES, nearest_rank, summarise
from mldr_deploy.profiler.report import Round
from mldr_deploy.profiler.request_stages import END_TO_END, STAGES, golden_requests

MS = 1_000_000
Marks = tuple[int, int, int, int, int, int]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=400))
def test_percentiles_are_numpys_inverted_cdf(samples: list[int]) -> None:
    summary = summarise(samples)
    for percent in PERCENTILES:
        expected = np.percentile(samples, percent, method="inverted_cdf")
        assert nearest_rank(samples, percent) == expected
        assert getattr(summary, f"p{percent}") == pytest.approx(expected / 1e6)
    assert summary.mean == pytest.approx(np.mean(samples) / 1e6)
    if len(samples) > 1:
        assert summary.cv == pytest.approx(
            100 * np.std(samples, ddof=1) / np.mean(samples), abs=1e-6
        )


def test_a_percentile_is_a_sample_that_occurred() -> None:
    assert nearest_rank([*range(1, 101)], 99) == 99
    assert nearest_rank([*range(1, 101)], 99.5) == 100
    assert nearest_rank([10, 20], 50) == 10


@pytest.mark.parametrize("stage", ["preprocess", "host_to_device", "compute", "device_to_host"])
def test_an_injected_delay_is_found_in_its_stage(
    bundle: Bundle, scripted: Callable[..., Any], stage: str
) -> None:
    """5 ms of real sleep in one verb; shares of the medians, as the machine may be busy."""

    def sleep(nanoseconds: int) -> None:
        if nanoseconds:
            time.sleep(nanoseconds / 1e9)

    runtime = scripted(sleep, **{stage: 5 * MS})
    requests = golden_requests(bundle, "JPEG")
    marks = measure(calls_of(runtime, requests, 1, WallClock()), 0.0, 20)
    taken = Round.of(marks, 0, 0, True)
    medians = {name: float(np.median(taken.samples(name))) for name in STAGES}
    assert medians[stage] >= 5 * MS
    assert medians[stage] == max(medians.values())
    assert sum(v for name, v in medians.items() if name != stage) < medians[stage]


def test_stages_are_what_they_cost_and_leave_no_gap(
    bundle: Bundle, scripted: Callable[..., Any], clock: Any
) -> None:
    costs = {"preprocess": 2, "host_to_device": 3, "compute": 50, "device_to_host": 7}
    call = calls_of(scripted(**costs), golden_requests(bundle, "PNG"), 2, clock)
    marks = measure(call, 0.0, 4)
    taken = Round.of(marks, 0, 0, True)
    assert {name: taken.samples(name).tolist() for name in STAGES} == {
        "decode": [0] * 4,
        **{name: [cost] * 4 for name, cost in costs.items()},
    }
    assert taken.samples(END_TO_END).tolist() == [62] * 4
    assert (marks[1:, 0] == marks[:-1, -1]).all()  # back to back


def test_requests_rotate_through_all_golden_images(
    bundle: Bundle, scripted: Callable[..., Any], clock: Any
) -> None:
    runtime = scripted(compute=1)
    measure(calls_of(runtime, golden_requests(bundle, "PNG"), 3, clock), 0.0, 8)
    sources = [source.tobytes() for source in bundle.golden.sources]
    assert runtime.seen == sources * 3  # 8 calls of 3: each image three times, in order


def test_measuring_lasts_for_both_the_seconds_and_the_iterations(
    bundle: Bundle, scripted: Callable[..., Any], clock: Any
) -> None:
    call = calls_of(scripted(compute=10 * MS), golden_requests(bundle, "PNG"), 1, clock)
    assert len(measure(call, 1.0, 5)) == 100
    assert len(measure(call, 0.01, 30)) == 30


def test_warm_up_waits_until_latency_falls_no_more() -> None:
    now = 0

    def call(k: int) -> Marks:
        nonlocal now
        begin = now
        now += int((10 + 90 * 0.98**k) * MS)
        return begin, begin, begin, begin, begin, now

    warmed = warm_up(call, 60)
    assert warmed.stable
    assert 90 * 0.98**warmed.calls < 10  # most of the fall is over
    now = 0
    given_up = warm_up(call, 0.5)
    assert not given_up.stable and given_up.seconds >= 0.5


def test_a_noisy_machine_ends_the_warm_up_too() -> None:
    rng = np.random.default_rng(0)
    now = 0

    def call(k: int) -> Marks:
        nonlocal now
        begin = now
        now += int(10 * MS * np.exp(0.3 * rng.standard_normal()))
        return begin, begin, begin, begin, begin, now

    assert warm_up(call, 10).stable


def test_poisson_arrivals_are_poisson() -> None:
    gaps = np.diff(schedule(1000, 0.0, 20_000, np.random.default_rng(0)), prepend=0) / MS
    assert np.mean(gaps) == pytest.approx(1, rel=0.03)
    assert np.std(gaps) == pytest.approx(1, rel=0.03)  # exponential: as large as the mean
    assert len(schedule(1000, 3.0, 100, np.random.default_rng(0))) == 3000


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waiting_is_what_queueing_theory_says(clock: Any, load: float) -> None:
    """M/D/1: the mean wait is load / (2 (1 - load)) service times (Pollaczek-Khinchine)."""

    def call(k: int) -> Marks:
        begin = clock.time_ns()
        clock.spend(MS)
        return begin, begin, begin, begin, begin, clock.time_ns()

    arrivals = schedule(1000 * load, 0.0, 20_000, np.random.default_rng(1))
    found = serve_arrivals(call, arrivals, clock)
    assert found.waiting.mean() / MS == pytest.approx(load / (2 * (1 - load)), rel=0.1)
    np.testing.assert_array_equal(found.latency - found.waiting, MS)


def test_a_stall_counts_for_everybody_who_waits(
    bundle: Bundle, scripted: Callable[..., Any], clock: Any
) -> None:
    """No coordinated omission: one request of 100 ms delays all that arrive meanwhile."""
    runtime = scripted(compute=MS)
    call = calls_of(runtime, golden_requests(bundle, "PNG"), 1, clock)

    def stalling(k: int) -> Marks:
        if k == 0:
            begin = clock.time_ns()
            clock.spend(100 * MS)
            return begin, begin, begin, begin, begin, clock.time_ns()
        return call(k)

    arrivals = np.arange(20, dtype=np.int64) * 5 * MS
    found = serve_arrivals(stalling, arrivals, clock)
    assert found.latency[0] == 100 * MS
    assert found.latency[1] == 96 * MS  # due at 5, begun at 100, answered at 101
    assert (found.latency[:15] > 40 * MS).all()
