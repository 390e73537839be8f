"""Whether the profiler tells the truth: beside a plain loop around ONNX Runtime, and its own cost.

    python benchmarks/profiler.py BUNDLE [SECONDS]

`ours` is the profiler's request with its time stamps; `plain` is an independent harness: Pillow,
the bundle's preprocessing and an ONNX Runtime session of its own, run() without binding, one clock
reading before and one after. Both answer the same images, one request each in turn and in changing
order, so that a busy machine disturbs both alike. `runtime` (to the device, compute, back) is
held against run() alone. Overhead is the profiler's own work a request (stamps, rotation,
storing), measured with stages that do nothing. The last line is JSON.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

from PIL import Image

from mldr_deploy.bundle.preprocess import preprocess
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.serve.profile import stages
from mldr_deploy.serve.profile.clock import WallClock
from mldr_deploy.serve.profile.closed_loop import calls_of, measure
from mldr_deploy.serve.runtimes.base import RuntimeOptions
from mldr_deploy.serve.runtimes.choose import open_runtime

WARM_UP = 50


def main(path: Path, seconds: float) -> None:
    """Measure both in turn, print medians and p99, and the JSON line."""
    bundle = open_bundle(path)
    requests = stages.golden_requests(bundle, "JPEG")
    whole, alone = plain(bundle)
    options = RuntimeOptions(threads=1)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    with open_runtime(bundle, "onnxruntime-cpu", "fp32", options) as runtime:
        call = calls_of(runtime, requests, 1, WallClock())
        for k in range(WARM_UP):
            call(k), whole(requests.files[0])
        began, k = time.perf_counter(), 0
        while time.perf_counter() - began < seconds or k < 1000:
            for first in (k % 2, 1 - k % 2):
                if first:
                    marks = call(k)
                    ours.append((marks[-1] - marks[0], marks[5] - marks[2]))
                else:
                    file = requests.files[k % len(requests.files)]
                    theirs.append((whole(file), alone()))
            k += 1
        cost = overhead()
    report(np.array(ours), np.array(theirs), cost)


def report(ours: Any, theirs: Any, cost: float) -> None:
    """Tables for people, then JSON."""
    found: dict[str, Any] = {"requests": len(ours)}
    print(f"{'':14}{'ours':>12}{'plain':>12}{'ratio':>9}   ({len(ours)} requests each, in turn)")
    for column, name in enumerate(("end_to_end", "runtime")):
        for percent in (50, 99):
            pair = [
                float(np.percentile(one[:, column], percent, method="inverted_cdf")) / 1e6
                for one in (ours, theirs)
            ]
            ratio = pair[0] / pair[1]
            print(f"{name} p{percent:<3}{pair[0]:9.4f} ms{pair[1]:9.4f} ms{ratio:9.4f}")
            found[f"{name}_p{percent}_ratio"] = round(ratio, 4)
    median = float(np.median(ours[:, 0]))
    print(f"overhead {cost / 1e3:.2f} us a request, {100 * cost / median:.3f} % of the median")
    found |= {
        "median_ms": round(median / 1e6, 4),
        "overhead_percent": round(100 * cost / median, 3),
    }
    print(json.dumps(found))


def plain(bundle: Bundle) -> tuple[Callable[[bytes], int], Callable[[], int]]:
    """(time of a whole request, time of run() on the input of the last one), ns."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    file = bundle.file(bundle.artifact("fp32"))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name, spec = session.get_inputs()[0].name, bundle.manifest.preprocessing
    taken = [0]

    def whole(data: bytes) -> int:
        begin = time.perf_counter_ns()
        inputs = preprocess([Image.open(io.BytesIO(data)).convert("RGB")], spec)
        run = time.perf_counter_ns()
        session.run(None, {name: inputs})
        end = time.perf_counter_ns()
        taken[0] = end - run
        return end - begin

    return whole, lambda: taken[0]


def overhead(calls: int = 20_000, repeats: int = 7) -> float:
    """ns a request that the profiler adds: its loop over stages that do nothing."""

    class Nothing:
        def preprocess(self, images: object) -> None:
            pass

        feed = preprocess

        def compute(self) -> None:
            pass

        fetch = compute

    requests = stages.Requests((b"",) * 16, "JPEG")
    opened, stages.open_image = stages.open_image, lambda file, most: None  # type: ignore
    try:
        call = calls_of(Nothing(), requests, 1, WallClock())  # type: ignore[arg-type]
        times = []
        for _ in range(repeats):
            begin = time.perf_counter_ns()
            measure(call, 0.0, calls)
            times.append((time.perf_counter_ns() - begin) / calls)
    finally:
        stages.open_image = opened
    return float(np.median(times))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 20.0)
