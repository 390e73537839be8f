"""Two bundles side by side: what differs between them, and never the machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import ttest_rel

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.cli.group import main
from mldr_deploy.errors import MldrError
from mldr_deploy.profiler.change import changed_in_pairs
from mldr_deploy.profiler.profile_config import ProfileConfig
from mldr_deploy.profiler.request_stages import golden_requests
from mldr_deploy.profiler.side_by_side import alternate, compare_bundles, stage_calls
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu

MS = 1_000_000
VERBS = {"preprocess": 2 * MS, "feed": MS // 10, "compute": 4 * MS, "fetch": MS // 10}
STAGES = {"preprocess": 2 * MS, "host_to_device": MS // 10, "compute": 4 * MS}


def cooled(runtime: Any, delay: int) -> Any:
    """``runtime`` with ``delay`` before its stages; a stage after it takes 13.5 % more once."""
    cold = False
    preprocess, compute = runtime.preprocess, runtime.compute

    def delayed(images: Any) -> Any:
        nonlocal cold
        runtime.spend(delay)
        cold = delay > 0
        return preprocess(images)

    def computed() -> None:
        nonlocal cold
        runtime.spend(int(0.135 * STAGES["compute"]) if cold else 0)
        cold = False
        compute()

    runtime.preprocess, runtime.compute = delayed, computed
    return runtime


def test_a_delay_before_a_stage_does_not_slow_the_stage(
    bundle: Bundle, scripted: Callable[..., Any], clock: Any
) -> None:
    requests = golden_requests(bundle, "JPEG")
    plain = stage_calls(scripted(**STAGES), requests, 1)
    slowed = stage_calls(cooled(scripted(**STAGES), 5 * MS), requests, 1)
    spent = {
        stage: alternate((plain[stage], slowed[stage]), 0.0, 5, clock)
        for stage in ("end_to_end", "preprocess", "compute")
    }
    assert {len(times) for both in spent.values() for times in both} == {5}
    assert spent["preprocess"] == ([2 * MS] * 5, [7 * MS] * 5)
    assert spent["compute"] == ([4 * MS] * 5, [4 * MS] * 5)
    # The user waits for the cold stage too.
    assert spent["end_to_end"] == ([6_100_000] * 5, [11_640_000] * 5)


def test_only_the_delayed_stage_of_a_real_session_is_called_slower(
    served: Path, copied: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime answers; how long it takes is told to a clock. A pause slows what comes next."""
    cold = False

    def slow(verb: str, nanoseconds: int) -> None:
        answer = getattr(OnnxRuntimeCpu, verb)

        def lasting(runtime: OnnxRuntimeCpu, *inputs: Any) -> Any:
            nonlocal cold
            pause = verb == "preprocess" and runtime.model.path.is_relative_to(copied)
            clock.spend(nanoseconds + 5 * MS * pause + nanoseconds // 7 * cold)
            cold = pause
            return answer(runtime, *inputs)

        monkeypatch.setattr(OnnxRuntimeCpu, verb, lasting)

    for verb, nanoseconds in VERBS.items():
        slow(verb, nanoseconds)
    tick = clock.time_ns
    monkeypatch.setattr(clock, "time_ns", lambda: clock.spend(1000) or tick())  # decoding lasts too
    config = ProfileConfig(
        runtimes=("onnxruntime-cpu",), batches=(1,), rounds=3, seconds=0.01, iterations=6
    )
    compared = compare_bundles(served, copied, config, clock=clock)
    verdicts = {row.series: row.change.verdict for row in compared.rows}
    slower = {"batch 1 preprocess p50", "batch 1 end to end p50", "batch 1 end to end p99"}
    assert {series for series, verdict in verdicts.items() if verdict == "slower"} == slower
    assert {row.change.ratio for row in compared.rows if row.series not in slower} == {1.0}


def test_the_two_take_turns_and_both_begin(clock: Any) -> None:
    order: list[str] = []

    def call(name: str) -> Any:
        def run(k: int) -> None:
            order.append(f"{name}{k}")
            clock.spend(MS)

        return run

    before, after = alternate((call("a"), call("b")), 0.008, 2, clock)
    turns = ["a0", "b0", "b1", "a1", "a2", "b2", "b3", "a3"]
    assert order[-8:] == turns and before == after == [MS] * 4
    assert order[:4] == turns[:4] and len(order) == 20 + 8  # 20 ms of settling


def test_a_drift_that_both_share_is_no_noise_and_no_change() -> None:
    rng = np.random.default_rng(0)
    drift = np.exp(0.3 * rng.standard_normal(6))
    before = [1e6 * d * np.exp(0.001 * rng.standard_normal(200)) for d in drift]
    after = [1.03 * 1e6 * d * np.exp(0.001 * rng.standard_normal(200)) for d in drift]
    slower = changed_in_pairs(before, after, 50)
    assert slower.verdict == "slower" and slower.ratio == pytest.approx(1.03, rel=0.002)
    medians = [
        [np.log(np.percentile(r, 50, method="inverted_cdf")) for r in side]
        for side in (before, after)
    ]
    assert slower.p == pytest.approx(ttest_rel(medians[1], medians[0]).pvalue, rel=1e-6)
    assert changed_in_pairs(before, [*reversed(after)], 50).verdict == "noise"
    assert changed_in_pairs(before[:2], after[:2], 50).verdict is None


def test_bundles_are_compared_by_the_command(served: Path) -> None:
    few = ["--batches", "1", "--rounds", "3", "--seconds", "0.01", "--iterations", "3", "-q"]
    words = ["profile", str(served), "--against", str(served), "--runtime", "onnxruntime-cpu"]
    result = CliRunner().invoke(main, [*words, *few])
    assert result.exit_code == 0, result.output
    assert "of 8 figures changed. Test: Student's 99 % interval" in result.output
    assert all(len(line) <= 80 for line in result.output.splitlines())
    rows = json.loads(CliRunner().invoke(main, [*words, *few, "--json"]).stdout)["result"]["rows"]
    stages = {"end to end p99", "decode p50", "compute p99", "device to host p50"}
    assert {f"batch 1 {stage}" for stage in stages} <= {row["series"] for row in rows}


def test_what_one_bundle_alone_has_is_named(
    served: Path, copied: Path, edit: Callable[..., Path]
) -> None:
    shutil.copyfile(copied / "student.onnx", copied / "other.onnx")

    def added(content: Any) -> None:
        (onnx,) = content["artifacts"]
        content["artifacts"] = [onnx, {**onnx, "file": "other.onnx"}]

    more = edit(copied, added)
    config = ProfileConfig(
        runtimes=("onnxruntime-cpu",), batches=(1,), rounds=2, seconds=1e-9, iterations=2
    )
    few = "fewer than 3 rounds: noise between rounds is not known"
    only = "only in the {}: onnxruntime-cpu other.onnx"
    compared = compare_bundles(served, more, config)
    assert compared.notes == [only.format("second"), few]
    assert f"note: {only.format('second')}" in str(compared)
    assert compare_bundles(more, served, config).notes[0] == only.format("first")


def test_bundles_with_nothing_in_common_are_refused(
    served: Path, copied: Path, edit: Callable[..., Path]
) -> None:
    def renamed(content: Any) -> None:
        content["artifacts"][0]["file"] = "other.onnx"

    (copied / "student.onnx").rename(copied / "other.onnx")
    other = edit(copied, renamed)
    config = ProfileConfig(runtimes=("onnxruntime-cpu",))
    with pytest.raises(MldrError, match="no file and runtime in common that run here"):
        compare_bundles(served, other, config)
