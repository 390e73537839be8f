"""Which artifact to ship, from timings and parities that are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.card import model_card
from mldr_deploy.bundle.chance import Chance
from mldr_deploy.bundle.latency import Latency
from mldr_deploy.bundle.manifest import Artifact, Manifest
from mldr_deploy.bundle.parity import Accuracy, Gate
from mldr_deploy.bundle.precisions import PRECISIONS
from mldr_deploy.bundle.preprocess import Floats
from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.bundle.shipping import Recommendation, Timing, recommend, recommended
from mldr_deploy.bundle.timing import in_turns
from mldr_deploy.pipeline.artifact_table import artifact_table

Times = float | Sequence[float]  # of both batch sizes: of every round


def manifest(folder: Path, *artifacts: dict[str, Any]) -> Manifest:
    bundled = open_bundle(folder).manifest
    first = bundled.artifacts[0]

    def artifact(precision: str, **changes: Any) -> Artifact:
        update = {"file": f"student.{precision}.onnx", "precision": precision}
        return first.model_copy(update={**update, **changes})

    return bundled.model_copy(update={"artifacts": [artifact(**a) for a in artifacts]})


def rounds(times: Times) -> list[float]:
    return [times] * 5 if isinstance(times, float) else [*times]


def advice(folder: Path, times: dict[str, Times], **changes: Any) -> Recommendation:
    """``changes`` are of the last artifact."""
    *others, last = times
    given = manifest(folder, *({"precision": p} for p in others), {"precision": last, **changes})
    series = [(f"student.{p}.onnx", rounds(t)) for p, t in times.items()]
    picked = recommend(given, [Timing(file, None, t, t) for file, t in series])
    assert picked is not None
    return picked


@pytest.mark.parametrize(
    ("times", "file", "reason"),
    [
        ({"fp32": 2.0, "int8": 1.0}, "int8", "2.00x as fast as fp32 at batch 1, top-1 -1.00"),
        ({"fp32": 1.0, "int8": 1.6}, "fp32", "faster beyond noise (int8 0.62x as fast"),
        ({"fp32": 1.0, "int8": 0.97}, "fp32", "faster beyond noise (int8 1.03x as fast"),
        ({"fp32": 1.0, "fp16": 3.0, "int8": 0.5}, "int8", "2.00x as fast as fp32"),
        ({"fp32": 1.0, "fp16": 0.5, "int8": 0.49}, "fp16", "2.00x as fast as fp32"),
        ({"fp32": 1.0, "int8-symmetric": 0.5}, "int8-symmetric", "2.00x"),
        ({"fp32": 1.0}, "fp32", "the only one that was measured and may be shipped"),
        # 10 % faster at the median, and slower in one round of five: inside the noise
        ({"fp32": 1.0, "int8": [0.9, 0.9, 0.9, 0.85, 1.01]}, "fp32", "int8 1.11x as fast"),
        # in one of ten it may be
        ({"fp32": [1.0] * 10, "int8": [0.9] * 9 + [1.01]}, "int8", "1.11x as fast as fp32"),
    ],
)
def test_the_widest_that_is_level_with_the_fastest(
    bundle_folder: Path, times: dict[str, Times], file: str, reason: str
) -> None:
    picked = advice(bundle_folder, times)
    assert picked.file == f"student.{file}.onnx" and not picked.noisy
    assert str(picked).startswith(f"Ship student.{file}.onnx: ") and reason in str(picked)


def test_a_machine_too_noisy_to_tell_is_told_so_first(bundle_folder: Path) -> None:
    noisy = advice(bundle_folder, {"fp32": 1.0, "int8": [0.6, 0.7, 1.2, 0.8, 1.5]})
    assert noisy.noisy and noisy.file == "student.fp32.onnx"
    assert noisy.headline.startswith("This machine is too noisy to tell which is fastest; the safe")
    clear = advice(bundle_folder, {"fp32": [3.0, 4.0, 5.0, 9.0, 4.0], "int8": 1.0})
    assert clear.file == "student.int8.onnx" and not clear.noisy  # noisy, but there is no doubt


def test_a_gain_at_one_batch_size_alone_is_not_enough(bundle_folder: Path) -> None:
    given = manifest(bundle_folder, {"precision": "fp32"}, {"precision": "int8"})
    fp32 = Timing("student.fp32.onnx", "r", [2.0] * 5, [2.0] * 5)
    int8 = Timing("student.int8.onnx", "r", [1.0] * 5, [1.95] * 5)
    picked = recommend(given, [fp32, int8])
    assert picked is not None and picked.file == "student.fp32.onnx"


@pytest.mark.parametrize("change", [{"status": "failed"}, {"emulated": True}])
def test_what_failed_or_was_only_emulated_is_not_shipped(
    bundle_folder: Path, change: dict[str, Any]
) -> None:
    assert advice(bundle_folder, {"fp32": 1.0, "fp16": 0.1}, **change).file == "student.fp32.onnx"
    nothing = advice(bundle_folder, {"fp16": 0.1}, **change)
    assert nothing.file is None and "student.fp16.onnx" in nothing.reason
    assert nothing.headline == "Ship nothing yet"


def test_what_few_images_cannot_tell_is_not_shipped(bundle_folder: Path) -> None:
    parity = open_bundle(bundle_folder).manifest.artifacts[0].parity
    update = {"samples": 30, "lost": 5, "gained": 0, "mcnemar_p": 0.0625}
    accuracy = {"reference": Accuracy(top1=90, top5=99), "artifact": Accuracy(top1=73.3, top5=99)}
    gate = Gate(**PRECISIONS["int8"].gate)
    doubted = parity.model_copy(update={**update, **accuracy, "gate": gate})
    picked = advice(bundle_folder, {"fp32": 1.0, "int8": 0.1}, parity=doubted)
    assert picked.file == "student.fp32.onnx"
    nothing = advice(bundle_folder, {"int8": 0.1}, parity=doubted)
    words = "drop 16.70 points: 30 images cannot tell it from chance"
    assert nothing.file is None and nothing.reason == f"student.int8.onnx: {words}"
    given = manifest(bundle_folder, {"precision": "fp32"}, {"precision": "int8", "parity": doubted})
    assert "in doubt" in artifact_table(given) and words in " ".join(artifact_table(given).split())
    assert f"- student.int8.onnx: {words}" in " ".join(model_card(given).split())


def test_only_what_was_timed_is_blamed(bundle_folder: Path) -> None:
    given = manifest(
        bundle_folder, {"precision": "fp32"}, {"precision": "int8", "status": "failed"}
    )
    picked = recommend(given, [Timing("weights.safetensors", "pytorch", [1.0])])
    assert picked is not None and picked.file is None
    assert picked.reason == "nothing that may be shipped was measured"


def test_two_files_of_one_precision_are_told_by_their_names(bundle_folder: Path) -> None:
    same = {"precision": "fp32"}
    given = manifest(
        bundle_folder, same, {**same, "file": "engines/a.fp32.plan"}, {"precision": "int8"}
    )
    times = {"student.fp32.onnx": 20.0, "engines/a.fp32.plan": 1.0, "student.int8.onnx": 0.5}
    picked = recommend(given, [Timing(f, None, [t] * 5, [t] * 5) for f, t in times.items()])
    assert picked is not None and picked.file == "student.int8.onnx"
    assert "40.00x as fast as student.fp32.onnx" in picked.reason


def test_nothing_lost_is_not_a_negative_zero(bundle_folder: Path) -> None:
    given = manifest(bundle_folder, {"precision": "fp32"}, {"precision": "int8"})
    level = given.artifacts[1].parity.model_copy(
        update={"artifact": given.artifacts[1].parity.reference}
    )
    artifacts = [given.artifacts[0], given.artifacts[1].model_copy(update={"parity": level})]
    given = given.model_copy(update={"artifacts": artifacts})
    times = {"student.fp32.onnx": 2.0, "student.int8.onnx": 1.0}
    picked = recommend(given, [Timing(f, None, [t] * 5, [t] * 5) for f, t in times.items()])
    assert picked is not None and "top-1 +0.00 points" in picked.reason


def test_a_student_at_chance_is_not_shipped(bundle_folder: Path) -> None:
    given = manifest(bundle_folder, {"precision": "fp32"})
    given = given.model_copy(update={"chance": Chance(images=100, hits=52, largest=50)})
    picked = recommend(given, [Timing("student.fp32.onnx", None, [1.0])])
    assert picked is not None and picked.file is None
    assert picked.reason == "the student is no better than chance"


def test_latencies_of_a_manifest_are_judged_with_and_without_rounds(bundle_folder: Path) -> None:
    def latency(ms: float, *rounds: float) -> Latency:
        several = [*rounds]
        return Latency(
            ms_single=ms,
            ms_batch=ms,
            batch=16,
            threads=1,
            machine="m",
            rounds_single=several,
            rounds_batch=several,
        )

    def picked(fp32: Latency | None, int8: Latency | None) -> Recommendation | None:
        pairs = {"fp32": fp32, "int8": int8}
        return recommended(
            manifest(bundle_folder, *({"precision": p, "latency": t} for p, t in pairs.items()))
        )

    assert picked(None, None) is None
    older = picked(latency(1.0), latency(0.9))  # without rounds the figures are all there is
    assert older is not None and older.file == "student.int8.onnx"
    noise = picked(latency(1.0, 1.0, 1.0, 1.0), latency(0.9, 0.9, 1.1, 0.8))
    assert noise is not None and noise.file == "student.fp32.onnx"


def test_calls_are_made_in_turns_on_rotating_images() -> None:
    calls: list[tuple[str, float]] = []

    def runner(name: str) -> Any:
        def run(inputs: Floats) -> Floats:
            calls.append((name, float(inputs[0, 0])))
            return inputs

        return run

    images = np.arange(3, dtype=np.float32)[:, None]
    result = in_turns([runner("a"), runner("b")], [images, images], 1, seconds=0)
    assert [len(medians) for medians in result] == [5, 5]
    measured = calls[10:30]  # after five of each to warm up
    assert measured == [(name, k % 3) for k in range(10) for name in "ab"]


def test_slow_calls_are_fewer_so_that_the_time_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of its own, which a call of the slow runner moves by three seconds."""
    now, calls = [0.0], {"slow": 0, "fast": 0}

    def runner(name: str, seconds: float) -> Any:
        def run(inputs: Floats) -> Floats:
            now[0] += seconds
            calls[name] += 1
            return inputs

        return run

    monkeypatch.setattr("mldr_deploy.bundle.timing.time.perf_counter", lambda: now[0])
    images = np.zeros((4, 3, 2, 2), np.float32)
    pair = [runner("slow", 3.0), runner("fast", 0.001)]
    slow, fast = in_turns(pair, [images, images], 2, seconds=1.0)
    assert calls == {"slow": 4, "fast": 4}  # two to warm up, and two that count
    assert slow == pytest.approx([1500.0] * 2) and fast == pytest.approx([0.5] * 2)
    (quick,) = in_turns([runner("fast", 0.001)], [images], 1, seconds=1.0)
    assert len(quick) == 5 and calls["fast"] > 1000
