"""The whole profile of a real bundle, its layers, and every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.cli.group import main
from mldr_deploy.profiler.layer_job import LayerJob
from mldr_deploy.profiler.layers import layers_of, table
from mldr_deploy.profiler.layers_onnxruntime import node_times, precision_of
from mldr_deploy.profiler.layers_tensorrt import LayerClock, rows
from mldr_deploy.profiler.report import Report, read_report
from mldr_deploy.runtimes.runtime import RuntimeOptions
from mldr_deploy.runtimes.runtime_kinds import RUNTIMES

Edit = Callable[[Path, Callable[[dict[str, Any]], None]], Path]
QUICK = ["--seconds", "0.05", "--iterations", "6", "--rounds", "3", "--threads", "1"]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["profile", *words])


def refused(result: Result, code: int, *told: str) -> None:
    assert result.exit_code == code, result.output
    assert len(result.output.splitlines()) == 1
    assert all(part in result.output for part in told), result.output


@pytest.fixture(scope="session")
def measured(served: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path, str]:
    out = tmp_path_factory.mktemp("measured") / "latency"
    names = ["--runtime", "onnxruntime-cpu", "--runtime", "pytorch"]
    result = run(str(served), *QUICK, *names, "--batches", "2,64", "--out", str(out), "-q")
    assert result.exit_code == 0, result.output
    return read_report(out), out, result.output


def test_the_whole_profile(measured: tuple[Report, Path, str], bundle: Bundle) -> None:
    report, out, told = measured
    assert {path.name for path in out.iterdir()} == {"report.json", "report.html", "summary.md"}
    assert [one.runtime for one in report.entries] == ["onnxruntime-cpu", "pytorch"]
    artifact = bundle.manifest.artifacts[0]
    first, reference = report.entries
    assert (first.sha256, first.accuracy.top1) == (artifact.sha256, artifact.parity.artifact.top1)
    assert reference.accuracy.top1 == artifact.parity.reference.top1
    assert [one.batch for one in first.closed] == [1, 2]  # 1 always; 64 is above what was proven
    assert [len(one.rounds) for one in first.closed] == [3, 3]
    assert all(one.summary["end_to_end"].count >= 6 for one in first.closed)
    assert [one.load for one in first.poisson] == [0.5, 0.8]
    assert report.recommendation.file == "student.onnx"
    assert report.machine.threads == 1 and "onnxruntime" in report.machine.versions
    assert "**Ship student.onnx in onnxruntime-cpu**: " in told and "report.html" in told


def test_layers_of_a_real_run(measured: tuple[Report, Path, str]) -> None:
    onnx, torch = (one.layers for one in measured[0].entries)
    for layers in (onnx, torch):
        assert sum(one.share for one in layers) == pytest.approx(100)
        shares = [one.share for one in layers]
        assert shares == sorted(shares, reverse=True)
    assert sum(one.kind == "Conv" for one in onnx) >= 10
    assert any(one.module.startswith("layer") for one in onnx)
    assert {one.precision for one in onnx if one.kind == "Conv"} == {"fp32"}
    assert {one.kind for one in torch} >= {"Conv2d", "Linear"}


def test_node_times_are_the_traces() -> None:
    kernel = {"cat": "Node", "args": {"op_name": "Conv", "input_type_shape": [{"float16": [1]}]}}
    run_at = [{"cat": "Session", "name": "model_run", "ts": ts} for ts in (0, 100, 200)]
    nodes = [
        {**kernel, "name": "a_kernel_time", "ts": ts, "dur": dur}
        for ts, dur in ((1, 999), (101, 10), (201, 30))
    ]
    timed = [*node_times([*run_at, *nodes], {"a": "stages.0"}, skip=1)]
    [row] = table(timed, calls=2)
    assert (row.milliseconds, row.module, row.precision) == (0.02, "stages.0", "fp16")


def test_precision_of_a_node() -> None:
    def told(*types: str) -> str:
        return precision_of({"input_type_shape": [{name: [1]} for name in types]})

    assert [told("float"), told("float", "uint8"), told("bfloat16", "float"), told("int64")] == [
        "fp32",
        "int8",
        "bf16",
        "",
    ]


def test_tensorrt_layers_join_times_and_inspector() -> None:
    clock = LayerClock()
    for ms in (0.5, 0.7):
        clock.report_layer_time("conv1", ms)
    clock.report_layer_time("reformat", 0.1)
    tensor = {"Name": "x", "Format/Datatype": "Half NCHW2"}
    found = table(
        rows(clock, {"conv1": {"LayerType": "CaskConvolution", "Inputs": [tensor]}}), calls=2
    )
    assert [(one.name, one.kind, one.precision) for one in found] == [
        ("conv1", "CaskConvolution", "fp16"),
        ("reformat", "", ""),
    ]
    assert found[0].milliseconds == pytest.approx(0.6)


def test_a_runtime_that_tells_no_layers_says_so(bundle: Bundle) -> None:
    artifact = bundle.manifest.artifacts[0]
    job = LayerJob(RUNTIMES["openvino"], bundle, artifact, RuntimeOptions(threads=1), 2)
    found = layers_of(job)
    assert found.rows == [] and "openvino" in found.note


def test_the_trace_leaves_nothing_behind(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = LayerJob(
        RUNTIMES["onnxruntime-cpu"],
        bundle,
        bundle.manifest.artifacts[0],
        RuntimeOptions(threads=1),
        2,
    )
    assert layers_of(job).rows
    assert list(tmp_path.iterdir()) == []


def test_a_failed_gate_is_refused_unless_allowed(failed: Path, out: Path) -> None:
    refused(run(str(failed), *QUICK, "--out", str(out)), 1, "failed its parity gate")
    quick = ["--runtime", "onnxruntime-cpu", "--batches", "1", "--loads", "", "--no-layers"]
    allowed = run(str(failed), *QUICK, *quick, "--allow-failed", "--out", str(out), "-q")
    assert allowed.exit_code == 0, allowed.output
    report = read_report(out)
    assert report.recommendation.file is None
    assert any("do not ship" in one for one in report.warnings)
    assert "FAILED" in (out / "summary.md").read_text()
    assert "FAILED" in (out / "report.html").read_text()


def test_a_bundle_without_artifacts(copied: Path, edit: Edit, out: Path) -> None:
    edit(copied, lambda content: content.update(artifacts=[]))
    refused(run(str(copied), "--out", str(out)), 1, "artifacts", "at least 1 item")


def test_a_tampered_file(copied: Path, out: Path) -> None:
    data = bytearray((copied / "student.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copied / "student.onnx").write_bytes(data)
    refused(run(str(copied), "--out", str(out)), 1, "student.onnx was changed after export")


def test_unknown_and_missing_runtimes(served: Path, out: Path) -> None:
    words = [str(served), "--out", str(out)]
    refused(run(*words, "--runtime", "abacus"), 1, "unknown runtime 'abacus'", "openvino")
    if RUNTIMES["onnxruntime-cuda"].missing():
        refused(run(*words, "--runtime", "onnxruntime-cuda"), 2, "onnxruntime-gpu")


def test_a_bundle_that_nothing_here_runs(
    served: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mldr_deploy.runtimes.runtime_choice.RUNTIMES", {})
    refused(run(str(served), "--out", str(out)), 2, "nothing that this machine runs")


def test_an_unwritable_out_is_refused_before_measuring(served: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(run(str(served), "--out", str(tmp_path / "file")), 1, "is a file")
    refused(run(str(served), "--out", str(tmp_path / "file" / "below")), 1, "cannot be written")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused(run(str(served), "--out", str(tmp_path / "mine")), 1, "holds other files")


def test_wrong_usage(served: Path, out: Path) -> None:
    assert run().exit_code == 2
    assert "no list of numbers" in run(str(served), "--batches", "one").output
    refused(run(str(served), "--loads", "1.5", "--out", str(out)), 1, "loads.0", "less than 1")


def test_accuracy_stays_with_its_file(copied: Path, edit: Edit, out: Path) -> None:
    """Two artifacts of the same graph: each carries its own parity."""

    def second(content: dict[str, Any]) -> None:
        other = json.loads(json.dumps(content["artifacts"][0]))
        other["precision"] = other["parity"]["precision"] = "fp16"
        other["parity"]["artifact"] = {"top1": 89.5, "top5": 98.5}
        content["artifacts"].append(other)
        (copied / "student.fp16.onnx").write_bytes((copied / "student.onnx").read_bytes())
        other["file"] = "student.fp16.onnx"

    edit(copied, second)
    quick = ["--runtime", "onnxruntime-cpu", "--batches", "1", "--loads", "", "--no-layers"]
    assert run(str(copied), *QUICK, *quick, "--out", str(out), "-q").exit_code == 0
    found = {one.file: one.accuracy.top1 for one in read_report(out).entries}
    assert found == {"student.onnx": 90, "student.fp16.onnx": 89.5}


def test_what_no_cpu_computes_is_left_out_and_said(copied: Path, edit: Edit, out: Path) -> None:
    def second(content: dict[str, Any]) -> None:
        other = json.loads(json.dumps(content["artifacts"][0]))
        other |= {"precision": "fp8", "emulated": True, "file": "student.fp8.onnx"}
        (copied / "student.fp8.onnx").write_bytes((copied / "student.onnx").read_bytes())
        content["artifacts"].append(other)

    edit(copied, second)
    words = [str(copied), *QUICK, "--runtime", "onnxruntime-cpu", "--out", str(out), "-q"]
    quick = ["--batches", "1", "--loads", "", "--no-layers"]
    assert run(*words, *quick).exit_code == 0
    report = read_report(out)
    assert [one.file for one in report.entries] == ["student.onnx"]
    if RUNTIMES["onnxruntime-cuda"].missing():
        assert "student.fp8.onnx computes in fp8" in report.left_out[0]
        refused(run(*words, "--artifact", "fp8"), 2, "computes in fp8", "proven by emulation")


def test_pillow_images_decode_to_the_golden_sources(bundle: Bundle) -> None:
    """PNG requests are the golden images bit for bit."""
    from mldr_deploy.profiler.request_stages import golden_requests
    from mldr_deploy.serve.uploads import open_image

    for file, source in zip(
        golden_requests(bundle, "PNG").files, bundle.golden.sources, strict=True
    ):
        np.testing.assert_array_equal(np.asarray(open_image(file, 1 << 20)), source)
