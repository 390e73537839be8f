"""Latencies of files, and that nothing is measured twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.choose.budget import Budget
from mldr_deploy.choose.measurements import Measurements
from mldr_deploy.choose.untrained import UntrainedLatency, over_budget, steadiest, time_files
from mldr_deploy.profiler.profile_config import ProfileConfig

RULES = ProfileConfig(rounds=2, seconds=0.02, iterations=4, warm_up_seconds=0.1)


def test_every_file_has_its_rounds_and_its_size(bundle: Bundle) -> None:
    file = bundle.path / "student.onnx"
    for batch in (1, 3, 20):  # 20: more than there are images
        budget = Budget(max_ms=5, batch=batch)
        files = {"fp32": file, "copy": file}
        measured = time_files(files, "onnx", budget, bundle.golden.inputs, RULES)
        assert [*measured] == ["fp32", "copy"]
        for latency in measured.values():
            assert latency.bytes == file.stat().st_size
            assert len(latency.rounds) == 2 and min(latency.rounds) > 0


def test_the_median_decides_and_the_spread_tells_the_noise() -> None:
    steady = UntrainedLatency(rounds=[1.0, 1.2, 1.1], bytes=1)
    assert (steady.milliseconds, steady.noisy) == (1.1, False)
    assert UntrainedLatency(rounds=[1.0, 1.25, 1.1], bytes=1).noisy


@pytest.mark.parametrize(
    ("milliseconds", "size", "excess"),
    [
        (5.0, 6_000_000, None),
        (5.001, 1, "5.001 ms, over 5 ms"),
        (5.0004, 1, "5.0004 ms, over 5 ms"),
        (5.0000000000000009, 1, "5.000000000000001 ms, over 5 ms"),
        (1.0, 6_000_001, "6.01 MB, over 6 MB"),
        (7.0, 7_000_000, "7 ms, over 5 ms and 7.00 MB, over 6 MB"),
    ],
)
def test_the_budget_by_hand(milliseconds: float, size: int, excess: str | None) -> None:
    assert Budget(max_ms=5, max_mb=6).excess(milliseconds, size) == excess


def test_what_was_measured_is_found_again_by_its_subject_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurements = Measurements(tmp_path)
    measurements.write("latency", {"a": 1, "b": 2}, 3.5)
    assert measurements.read("latency", {"b": 2, "a": 1}) == 3.5
    assert measurements.read("latency", {"a": 1, "b": 3}) is None
    assert measurements.read("epoch", {"a": 1, "b": 2}) is None
    monkeypatch.setattr("mldr_deploy.choose.measurements.processor", lambda: "another")
    assert measurements.read("latency", {"a": 1, "b": 2}) is None


def test_noisy_series_are_repeated_and_the_steadiest_counts() -> None:
    def latencies(*rounds: float) -> dict[str, UntrainedLatency]:
        return {"fp32": UntrainedLatency(rounds=[*rounds], bytes=1)}

    noisy, noisier, steady = latencies(1, 2), latencies(1, 3), latencies(1, 1.1)
    for series, best, calls in [
        ([steady, noisy], steady, 1),
        ([noisy, steady, noisier], steady, 2),
        ([noisier, noisy, noisier, steady], noisy, 3),
    ]:
        waiting = iter(series)
        assert steadiest(lambda: next(waiting)) == best  # noqa: B023
        assert len([*waiting]) == len(series) - calls


def test_over_the_budget_by_the_median_says_where_noise_leaves_it_open() -> None:
    budget = Budget(max_ms=5)
    restless = UntrainedLatency(rounds=[2.05, 5.87, 10.55], bytes=1)
    text = "5.87 ms, over 5 ms (rounds of 2.05 to 10.55 ms: too noisy to tell)"
    assert over_budget(restless, budget) == text
    assert over_budget(UntrainedLatency(rounds=[2, 4, 9], bytes=1), budget) is None
    assert over_budget(UntrainedLatency(rounds=[6, 7, 9], bytes=1), budget) == "7 ms, over 5 ms"
