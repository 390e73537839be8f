"""Which artifact to ship, from latencies and parities that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mldr_deploy.bundle.latency import Latency
from mldr_deploy.bundle.manifest import Artifact, Manifest
from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.bundle.recommendation import recommend


def manifest(folder: Path, *artifacts: dict[str, Any]) -> Manifest:
    held = open_bundle(folder).manifest
    first = held.artifacts[0]

    def artifact(precision: str, ms: float | None, **changes: Any) -> Artifact:
        latency = (
            Latency(ms_single=ms, ms_batch=ms, batch=16, threads=1, machine="m") if ms else None
        )
        update = {"file": f"student.{precision}.onnx", "precision": precision, "latency": latency}
        return first.model_copy(update={**update, **changes})

    return held.model_copy(update={"artifacts": [artifact(**each) for each in artifacts]})


@pytest.mark.parametrize(
    ("artifacts", "file", "reason"),
    [
        ([("fp32", 2.0), ("int8", 1.0)], "int8", "2.00x as fast as fp32 at batch 1"),
        (
            [("fp32", 1.0), ("int8", 1.6)],
            "fp32",
            "faster here at batch 1 and 16 (int8 0.62x and 0.62x)",
        ),
        ([("fp32", 1.0), ("int8", 0.97)], "fp32", "nothing that passed is faster here"),
        ([("fp32", 1.0), ("fp16", 3.0), ("int8", 0.5)], "int8", "top-1 -1.00 points"),
        ([("fp32", 1.0)], "fp32", "the only one measured here"),
    ],
)
def test_int8_is_shipped_only_where_it_is_faster(
    bundle_folder: Path, artifacts: list[tuple[str, float]], file: str, reason: str
) -> None:
    given = [{"precision": precision, "ms": ms} for precision, ms in artifacts]
    advice = recommend(manifest(bundle_folder, *given))
    assert advice is not None
    assert advice.file == f"student.{file}.onnx"
    assert reason in str(advice)


def test_a_gain_at_one_batch_size_alone_is_not_enough(bundle_folder: Path) -> None:
    held = manifest(
        bundle_folder, {"precision": "fp32", "ms": 2.0}, {"precision": "int8", "ms": 1.0}
    )
    base, fast = held.artifacts
    slow = fast.latency.model_copy(update={"ms_batch": 1.95})  # type: ignore[union-attr]
    fast = fast.model_copy(update={"latency": slow})
    advice = recommend(held.model_copy(update={"artifacts": [base, fast]}))
    assert advice is not None and advice.file == "student.fp32.onnx"
    assert "int8 2.00x and 1.03x" in advice.reason


def test_what_failed_or_was_only_emulated_is_not_shipped(bundle_folder: Path) -> None:
    base = {"precision": "fp32", "ms": 1.0}
    for change in ({"status": "failed"}, {"emulated": True}):
        fast = {"precision": "int8", "ms": 0.1, **change}
        advice = recommend(manifest(bundle_folder, base, fast))
        assert advice is not None and advice.file == "student.fp32.onnx"


def test_without_latencies_nothing_is_said(bundle_folder: Path) -> None:
    assert recommend(manifest(bundle_folder, {"precision": "fp32", "ms": None})) is None
