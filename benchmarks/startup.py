"""How long `mldr-deploy --help` takes beside an interpreter that does nothing.

    python benchmarks/startup.py [RUNS]

Each run is a fresh process; the two are started in turn, so that a busy machine slows both alike.
`python -c pass` is the floor: nothing that Python runs can be faster. The last line is JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import click": [sys.executable, "-c", "import click"],
    "mldr-deploy --help": [sys.executable, "-m", "mldr_deploy", "--help"],
    "mldr-deploy doctor --help": [sys.executable, "-m", "mldr_deploy", "doctor", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall-clock time of one fresh process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".src")}
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def main(runs: int) -> None:
    """Measure, print a table and the JSON line."""
    for command in COMMANDS.values():
        seconds(command)  # warm-up: bytecode and file cache
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            taken[name].append(1000 * seconds(command))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    floor = medians["python -c pass"]
    print(f"{'command':28}{'median':>10}{'min':>10}{'max':>10}{'over floor':>12}   ms, {runs} runs")
    for name, values in taken.items():
        median = medians[name]
        spread = f"{min(values):>10.1f}{max(values):>10.1f}"
        print(f"{name:28}{median:>10.1f}{spread}{median - floor:>12.1f}")
    print(json.dumps({"benchmark": "startup", "runs": runs, "median_ms": medians}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 21)
