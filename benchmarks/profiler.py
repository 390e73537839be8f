"""Whether the profiler tells the truth: beside a plain loop around ONNX Runtime, and its own cost.

    python benchmarks/profiler.py BUNDLE [SECONDS]

`ours` is the profiler's request with its time stamps; `plain` is an independent harness: Pillow,
the bundle's preprocessing and an ONNX Runtime session of its own, run() without binding, one clock
reading before and one after; `polygraphy`, where it is installed, is NVIDIA's OnnxrtRunner with its
own timing of inference. All answer the same images, one request each in turn and in changing order,
so that a busy machine disturbs all alike. `runtime` (to the device, compute, back) is held against
run() alone and against Polygraphy's figure. Overhead is the profiler's own work a request (stamps,
rotation, storing), measured with stages that do nothing. The last line is JSON.
"""

from __future__ import annotations

import atexit
import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))


from mldr_deploy.bundle.picture import open_picture
from mldr_deploy.bundle.preprocess import preprocess
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.profiler import request_stages
from mldr_deploy.profiler.clock import WallClock
from mldr_deploy.profiler.closed_loop import calls_of, measure
from mldr_deploy.runtimes.runtime import RuntimeOptions
from mldr_deploy.runtimes.runtime_choice import open_runtime

WARM_UP = 50


def main(path: Path, seconds: float) -> None:
    """Measure both in turn, print medians and p99, and the JSON line."""
    bundle = open_bundle(path)
    requests = request_stages.golden_requests(bundle, "JPEG")
    options = RuntimeOptions(threads=1)
    with open_runtime(bundle, "onnxruntime-cpu", "fp32", options) as runtime:
        call = calls_of(runtime, requests, 1, WallClock())

        def ours(k: int) -> tuple[int, int]:
            marks = call(k)
            return marks[-1] - marks[0], marks[5] - marks[2]

        harnesses = {"ours": ours, "plain": plain(bundle, requests)}
        if find_spec("polygraphy") is not None:
            harnesses["polygraphy"] = polygraphy(bundle, requests)
        found = in_turn(harnesses, seconds)
        cost = overhead()
    report(found, cost)


Harness = Callable[[int], tuple[int, int]]  # request number -> ns end to end, ns of the runtime


def in_turn(harnesses: dict[str, Harness], seconds: float) -> dict[str, Any]:
    """Times [N, 2] of each, after a warm-up; who begins changes with every request."""
    names = [*harnesses]
    taken: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    began, k = time.perf_counter(), -WARM_UP
    while k < 1000 or time.perf_counter() - began < seconds:
        first = k % len(names)
        for name in names[first:] + names[:first]:
            times = harnesses[name](k)
            if k >= 0:
                taken[name].append(times)
        k += 1
    return {name: np.array(times) for name, times in taken.items()}


def report(taken: dict[str, Any], cost: float) -> None:
    """Tables for people, then JSON."""
    requests = len(taken["ours"])
    found: dict[str, Any] = {"requests": requests}
    print(f"{requests} requests each, in turn; ms, and ours over theirs")
    for column, name in enumerate(("end_to_end", "runtime")):
        for percent in (50, 99):
            row = {
                who: float(np.percentile(times[:, column], percent, method="inverted_cdf")) / 1e6
                for who, times in taken.items()
            }
            shown = "".join(f"{who:>12}{ms:9.4f}" for who, ms in row.items())
            ratios = {who: row["ours"] / ms for who, ms in row.items() if who != "ours"}
            print(f"{name} p{percent:<3}{shown}   {' '.join(f'{r:.4f}' for r in ratios.values())}")
            for who, ratio in ratios.items():
                found[f"{name}_p{percent}_over_{who}"] = round(ratio, 4)
    median = float(np.median(taken["ours"][:, 0]))
    print(f"overhead {cost / 1e3:.2f} us a request, {100 * cost / median:.3f} % of the median")
    found |= {
        "median_ms": round(median / 1e6, 4),
        "overhead_percent": round(100 * cost / median, 3),
    }
    print(json.dumps(found))


def session_of(bundle: Bundle) -> Any:
    """An ONNX Runtime session of its own, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    file = bundle.file(bundle.artifact("fp32"))
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def plain(bundle: Bundle, requests: request_stages.Requests) -> Harness:
    """Two readings of the clock around the whole, two around run()."""
    session = session_of(bundle)
    name, spec = session.get_inputs()[0].name, bundle.manifest.preprocessing

    def whole(k: int) -> tuple[int, int]:
        begin = time.perf_counter_ns()
        image = open_picture(requests(k, 1)[0])
        inputs = preprocess([image], spec)
        run = time.perf_counter_ns()
        session.run(None, {name: inputs})
        end = time.perf_counter_ns()
        return end - begin, end - run

    return whole


def polygraphy(bundle: Bundle, requests: request_stages.Requests) -> Harness:
    """The same, with inference and its time by Polygraphy's runner."""
    from polygraphy.backend.onnxrt import OnnxrtRunner

    session = session_of(bundle)
    name, spec = session.get_inputs()[0].name, bundle.manifest.preprocessing
    runner = OnnxrtRunner(session)
    runner.activate()
    atexit.register(runner.deactivate)

    def whole(k: int) -> tuple[int, int]:
        begin = time.perf_counter_ns()
        image = open_picture(requests(k, 1)[0])
        runner.infer({name: preprocess([image], spec)}, check_inputs=False)
        end = time.perf_counter_ns()
        return end - begin, round(1e9 * runner.last_inference_time())

    return whole


def overhead(calls: int = 20_000, repeats: int = 7) -> float:
    """ns a request that the profiler adds: its loop over stages that do nothing."""

    class Nothing:
        def preprocess(self, images: object) -> None:
            pass

        feed = preprocess

        def compute(self) -> None:
            pass

        fetch = compute

    requests = request_stages.Requests((b"",) * 16, "JPEG")
    with patch.object(request_stages, "open_picture", lambda file, limits: None):
        call = calls_of(Nothing(), requests, 1, WallClock())  # type: ignore[arg-type]
        times = []
        for _ in range(repeats):
            begin = time.perf_counter_ns()
            measure(call, 0.0, calls)
            times.append((time.perf_counter_ns() - begin) / calls)
    return float(np.median(times))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 20.0)
