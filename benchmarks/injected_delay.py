"""What `profile --against` says of a bundle whose preparation of images was slowed by a real pause.

    python benchmarks/injected_delay.py BUNDLE [--milliseconds 5] [--repeats 3] [--pause sleep|work]

The same bundle stands on both sides, in two folders; for the second one, every request sleeps (or
computes) before its image is prepared. So preparation and the whole request are slower by just
that, and no other stage is. Each repetition is one comparison by the profiler's own rules in ONNX
Runtime on one thread; told are the verdicts of all stages, and how far the untouched ones seem to
have moved. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".src"))


def paused(folder: Path, seconds: float, kind: str) -> None:
    """Let every request to a bundle in ``folder`` pause before its image is prepared."""
    from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu

    prepare = OnnxRuntimeCpu.preprocess

    def delayed(runtime: Any, *inputs: Any) -> Any:
        if runtime.model.path.is_relative_to(folder):
            if kind == "sleep":
                time.sleep(seconds)
            until = time.perf_counter() + seconds
            while kind == "work" and time.perf_counter() < until:
                pass
        return prepare(runtime, *inputs)

    OnnxRuntimeCpu.preprocess = delayed  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--milliseconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pause", choices=["sleep", "work"], default="sleep")
    options = parser.parse_args()
    from mldr_deploy.bundle.processor import processor
    from mldr_deploy.profiler.profile_config import ProfileConfig
    from mldr_deploy.profiler.side_by_side import compare_bundles

    config = ProfileConfig(runtimes=("onnxruntime-cpu",), batches=(1,), threads=1)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="mldr-injected-") as name:
        slowed = Path(name) / "slowed"
        shutil.copytree(options.bundle, slowed)
        paused(slowed, options.milliseconds / 1e3, options.pause)
        for number in range(options.repeats):
            compared = compare_bundles(options.bundle, slowed, config)
            for row in compared.rows:
                touched = "preprocess" in row.series or "end to end" in row.series
                outcomes.append((row.series, touched, row.change.verdict, row.change.ratio))
                print(
                    f"{number}  {row.entry:28} {row.series:28} {row.change.verdict!s:8} "
                    f"{row.change.ratio:.3f}"
                )
    untouched = [(verdict, ratio) for _, touched, verdict, ratio in outcomes if not touched]
    affected = [verdict for _, touched, verdict, _ in outcomes if touched]
    result = {
        "processor": processor(),
        "pause": f"{options.pause} {options.milliseconds:g} ms",
        "slowed_figures": len(affected),
        "slowed_found": sum(verdict == "slower" for verdict in affected),
        "untouched_figures": len(untouched),
        "untouched_called_changed": sum(v in ("slower", "faster") for v, _ in untouched),
        "untouched_ratio_range": [
            round(min(ratio for _, ratio in untouched), 4),
            round(max(ratio for _, ratio in untouched), 4),
        ],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
