"""Every precision of trained students beside each other: size, accuracy, agreement, CPU latency.

    python benchmarks/precision.py RUN [RUN ...] [--out DIR] [--test-images N]
        [--targets onnx,executorch,litert --precisions fp32,int8,int8-dynamic]

RUN is a folder that `distill` left (model.json and weights.safetensors) or a bundle that `export`
wrote. A run is exported first, in every precision, to a bundle under --out. Latencies are taken
anew, in turns, on one thread: the wall time that a call took (median), and the processor time of
this process, which other work on the machine hardly changes. Files for phones are run by their own
library on this machine. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

from mldr_deploy.bundle.manifest import FILE
from mldr_deploy.bundle.processor import processor
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.trained import load_trained
from mldr_deploy.cli.console import progress
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.kinds import KINDS
from mldr_deploy.pipeline.artifact_table import artifact_table

BATCHES = (1, 16)
FIRST = "student.onnx"  # what ratios are to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--test-images", type=int, default=0, help="0: the whole split")
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--validation-images", type=int, default=2000)
    parser.add_argument("--methods", default="minmax,entropy,percentile")
    parser.add_argument("--targets", default="onnx")
    parser.add_argument("--precisions", default="fp32,fp16,bf16,int8,fp8")
    parser.add_argument("--seconds", type=float, default=2.0, help="per artifact and batch")
    given = parser.parse_args()
    results = []
    for run in given.runs:
        bundle = (
            open_bundle(run, allow_failed=True) if (run / FILE).exists() else export(run, given)
        )
        rows = measure(bundle, given.seconds)
        manifest = bundle.manifest
        print(f"\n{manifest.model['name']} ({manifest.family}), {manifest.data['source']}")
        print(artifact_table(manifest))
        for row in rows:
            if row["cpu_ms"] is not None:
                times = ", ".join(
                    f"b{batch} {row['cpu_ms'][batch]:.3f} ms ({row['cpu_speedup'][batch]:.2f}x)"
                    for batch in BATCHES
                )
                print(f"  processor time an image, 1 thread: {row['file']:28} {times}")
        results.append(
            {"model": manifest.model["name"], "family": manifest.family, "artifacts": rows}
        )
    print(json.dumps({"benchmark": "precision", "machine": processor(), "students": results}))


def export(run: Path, given: Any) -> Bundle:
    """The run in every precision; parity on ``--test-images`` of its test split."""
    record, _ = load_trained(run)
    config = ExportConfig(
        targets=given.targets.split(","),
        precisions=given.precisions.split(","),
        calibration={"images": given.calibration_images},  # type: ignore[arg-type]
        quantize={  # type: ignore[arg-type]
            "methods": given.methods.split(","),
            "validation_images": given.validation_images,
        },
        bisect=False,
    )
    with progress() as bar:
        dataset = load_dataset(DataConfig(**record.data), progress=bar)
        dataset = shortened(dataset, given.test_images)
        out = given.out / str(record.model["name"])
        return build_bundle(run, out, config, dataset=dataset, progress=bar)


def shortened(dataset: Dataset, count: int) -> Dataset:
    """``count`` test images spread over the split; 0: all."""
    if not count or count >= len(dataset.test):
        return dataset
    rows = np.linspace(0, len(dataset.test) - 1, count).round().astype(np.int64)
    return dataclasses.replace(dataset, test=dataset.test.subset(rows))


def measure(bundle: Bundle, seconds: float) -> list[dict[str, Any]]:
    """One record an artifact; times of those that this machine runs."""
    artifacts = bundle.manifest.artifacts
    kinds = {a.file: KINDS[a.format, a.precision] for a in artifacts}
    with contextlib.ExitStack() as stack:
        runners = {
            a.file: stack.enter_context(run(bundle.path, a, 1))
            for a in artifacts
            if (run := kinds[a.file].run if a.caveat else kinds[a.file].timed) is not None
        }
        times = {
            batch: in_turns(runners, bundle.golden.inputs, batch, seconds) for batch in BATCHES
        }
    rows = []
    for artifact in artifacts:
        name = artifact.file
        record = artifact.quantization
        there = name in runners
        rows.append(
            {
                "file": name,
                "format": artifact.format,
                "precision": artifact.precision,
                "bytes": artifact.size,
                "top1": round(artifact.parity.artifact.top1, 3),
                "drop": round(artifact.parity.drop, 3),
                "agreement": round(artifact.parity.agreement, 3),
                "test_images": artifact.parity.samples,
                "status": artifact.status,
                "emulated": artifact.emulated,
                "islands": len(artifact.islands),
                "method": record.method if record else None,
                "left_out": len(record.excluded) if record else None,
                "wall_ms": {b: times[b][0][name] for b in BATCHES} if there else None,
                "cpu_ms": {b: times[b][1][name] for b in BATCHES} if there else None,
                "cpu_speedup": {b: times[b][1][FIRST] / times[b][1][name] for b in BATCHES}
                if there
                else None,
            }
        )
    return rows


def in_turns(
    runners: dict[str, Any], images: Any, batch: int, seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of wall and processor time of a call, milliseconds an image, by file."""
    inputs = np.ascontiguousarray(images[np.arange(batch) % len(images)])
    wall: dict[str, list[float]] = {name: [] for name in runners}
    spent: dict[str, list[float]] = {name: [] for name in runners}
    for runner in runners.values():
        for _ in range(5):
            runner(inputs)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds * len(runners) or len(wall[FIRST]) < 30:
        for name, runner in runners.items():
            start, own = time.perf_counter(), time.process_time()
            runner(inputs)
            spent[name].append(time.process_time() - own)
            wall[name].append(time.perf_counter() - start)
    return tuple(  # type: ignore[return-value]
        {name: 1000 * statistics.median(values) / batch for name, values in measured.items()}
        for measured in (wall, spent)
    )


if __name__ == "__main__":
    main()
