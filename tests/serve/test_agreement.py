"""Every command says the same of bundles that each of them used to judge in its own way."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.card import model_card
from mldr_deploy.bundle.golden import golden_limit, load_golden, save_golden
from mldr_deploy.bundle.manifest import Manifest, describe
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.shipping import recommended
from mldr_deploy.demo.loaded_student import LoadedStudent
from mldr_deploy.errors import MldrError
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.pipeline.artifact_table import artifact_table
from mldr_deploy.profiler.recommend import recommendation
from mldr_deploy.profiler.report import Closed, Entry, FileAccuracy, Round
from mldr_deploy.runtimes import runtime_choice
from mldr_deploy.runtimes.runtime import Runtime, RuntimeOptions
from mldr_deploy.runtimes.runtime_choice import open_runtime, prove_golden

Edit = Callable[[Path, Callable[[dict[str, Any]], None]], Path]
FIRST, SECOND = "student.onnx", "student.second.onnx"
STEADY = [1.0, 1.02, 0.99, 1.0, 1.01]
HALF = [0.5, 0.51, 0.5, 0.49, 0.5]
LEVEL = [0.95, 0.9, 1.05, 0.9, 1.01]  # 1.05x at the median, and not in every round
WILD = [0.4, 1.4, 0.7, 1.5, 0.6]


def two_artifacts(
    folder: Path, second: dict[str, Any], whole: dict[str, Any], times: dict[str, list[float]]
) -> Callable[[dict[str, Any]], None]:
    """A second artifact, and the latencies that export would have written."""

    def change(content: dict[str, Any]) -> None:
        shutil.copy(folder / FIRST, folder / SECOND)
        other = content["artifacts"][0] | describe(folder, SECOND).model_dump() | second
        if other["status"] == "failed":
            other["parity"] = other["parity"] | {"failures": ["top-1 drop 9.00 points"]}
        content["artifacts"].append(other)
        content.update(whole)
        for artifact in content["artifacts"]:
            series = times[artifact["file"]]
            middle = float(np.median(series))
            artifact["latency"] = {
                "ms_single": middle,
                "ms_batch": middle,
                "batch": 8,
                "threads": 1,
                "machine": "m",
                "rounds_single": series,
                "rounds_batch": series,
            }

    return change


def entries(manifest: Manifest, times: dict[str, list[float]]) -> list[Entry]:
    """What a profile would have measured: decoding of 5 ms, and a call of ``times``."""

    def closed(batch: int, medians: list[float]) -> Closed:
        marks = [np.cumsum([[0, 5e6, 0, 0, 1e6 * ms, 0]] * 3, axis=1) for ms in medians]
        return Closed.of(batch, [Round.of(m.astype(np.int64), 1, 1.0, True) for m in marks])

    return [
        Entry(
            runtime="onnxruntime-cpu",
            file=artifact.file,
            format="onnx",
            precision=artifact.precision,
            bytes=artifact.bytes,
            sha256=artifact.sha256,
            status=artifact.status,
            accuracy=FileAccuracy(
                top1=90, top5=99, drop=0, samples=100, emulated=artifact.emulated
            ),
            golden_difference=0.0,
            closed=[closed(batch, times[artifact.file]) for batch in (1, 8)],
        )
        for artifact in manifest.artifacts
    ]


@pytest.mark.parametrize(
    ("second", "whole", "seconds", "file", "headline"),
    [
        ({"precision": "int8"}, {}, HALF, SECOND, "Ship student.second.onnx"),
        ({"precision": "int8"}, {}, LEVEL, FIRST, "Ship student.onnx"),
        ({"precision": "fp16", "emulated": True}, {}, HALF, FIRST, "Ship student.onnx"),
        ({"precision": "int8", "status": "failed"}, {}, HALF, FIRST, "Ship student.onnx"),
        ({"precision": "int8"}, {}, WILD, FIRST, "This machine is too noisy to tell"),
        (
            {"precision": "int8"},
            {"chance": {"images": 100, "hits": 12, "largest": 11}},
            HALF,
            None,
            "Ship nothing yet",
        ),
    ],
    ids=["faster", "level", "emulated", "failed", "noisy", "at chance"],
)
def test_every_command_ships_the_same(
    copied: Path,
    edit: Edit,
    monkeypatch: pytest.MonkeyPatch,
    second: dict[str, Any],
    whole: dict[str, Any],
    seconds: list[float],
    file: str | None,
    headline: str,
) -> None:
    times = {FIRST: STEADY, SECOND: seconds}
    edit(copied, two_artifacts(copied, second, whole, times))
    manifest = open_bundle(copied, allow_failed=True).manifest
    bundle = Bundle(copied, manifest)

    def scripted(runners: Sequence[Runtime], *_: Any, **__: Any) -> list[list[float]]:
        return [times[runner.file] for runner in runners]

    monkeypatch.setattr(runtime_choice, "in_turns", scripted)
    exported = recommended(manifest)
    profiled = recommendation(manifest, entries(manifest, times))
    assert exported is not None and exported.file == profiled.file == file
    assert exported.headline.startswith(headline)
    assert profiled.headline.startswith(headline) and profiled.reason == exported.reason
    assert str(exported) in artifact_table(manifest).replace("\n", " ")
    card = model_card(manifest)
    if file is None:
        with pytest.raises(MldrError, match="no better than chance"):
            open_runtime(bundle, "onnxruntime-cpu", options=RuntimeOptions(threads=1))
        assert manifest.warning is not None and f"**Do not ship it: {manifest.warning}.**" in card
        return
    assert f"**{exported.headline}**: {exported.reason}." in card
    served = open_runtime(bundle, "onnxruntime-cpu", options=RuntimeOptions(threads=1))
    with LoadedStudent(bundle, "onnxruntime-cpu", RuntimeOptions(threads=1)) as student:
        shown = student.forms[student.first or ""].artifact
    assert served.file == shown.file == file


def test_what_was_only_emulated_is_served_when_it_is_named(copied: Path, edit: Edit) -> None:
    def emulated(content: dict[str, Any]) -> None:
        content["artifacts"][0] |= {"precision": "fp16", "emulated": True}

    bundle = open_bundle(edit(copied, emulated))
    with pytest.raises(
        MldrError, match=r"student\.onnx: parity was proven by emulated.*--artifact"
    ):
        open_runtime(bundle, options=RuntimeOptions(threads=1))
    assert open_runtime(bundle, "onnxruntime-cpu", "fp16").model.precision == "fp16"


@pytest.mark.parametrize(("shift", "holds"), [(0.0, True), (0.19, True), (0.21, False)])
def test_check_and_serve_let_the_same_golden_logits_pass(
    copied: Path, edit: Edit, shift: float, holds: bool
) -> None:
    """An int8 artifact that needed 0.1 at export and is off by ``shift`` here."""
    golden = load_golden(copied / "golden.npz")
    shifted = dataclasses.replace(golden, logits=golden.logits + np.float32(shift))
    save_golden(copied / "golden.npz", shifted)

    def quantised(content: dict[str, Any]) -> None:
        content["golden"] = describe(copied, "golden.npz").model_dump()
        parity = content["artifacts"][0]["parity"]
        parity |= {"max_dlogit": 0.1, "gate": {"max_drop": 1.0}}

    bundle = open_bundle(edit(copied, quantised))
    assert golden_limit(bundle.manifest.artifacts[0].parity) == pytest.approx(0.2)
    checked = {finding.subject: finding.holds for finding in check_bundle(copied).findings}
    assert checked["student.onnx golden logits"] is holds
    with open_runtime(bundle, "onnxruntime-cpu", "fp32") as runtime:
        if holds:
            assert prove_golden(bundle, runtime) == pytest.approx(shift, abs=1e-4)
        else:
            with pytest.raises(MldrError, match=r"off by 0\.21, allowed 0\.2"):
                prove_golden(bundle, runtime)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_golden_logits_that_are_no_numbers_never_hold(bundle: Bundle, broken: float) -> None:
    golden = bundle.golden
    logits = golden.logits.copy()
    assert golden.difference(logits) == 0
    logits[3, 1] = broken
    assert golden.difference(logits) == golden.difference(logits[:, :4]) == float("inf")
