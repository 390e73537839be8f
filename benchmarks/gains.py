"""What distillation gains: MLDR-KD beside KD and labels only, on equal terms, all seeds.

    python benchmarks/gains.py [--recipe cifar100-cpu] [--seeds 0 1] [--out runs/gains]

The first run is the main job as it comes (teacher trained, student distilled, exported, proven);
the others share its teacher, and its budget, data order and augmentation seed by seed. Accuracy is
of the exported student's PyTorch reference on the whole test split, at the epoch that the
validation split chose. Interrupted, the same command goes on. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("mldr-kd", "kd", "scratch")


def main(recipe: str, seeds: list[int], out: Path, settings: list[str]) -> None:
    """Run everything that is not there yet, print a table and the JSON line."""
    teacher = out / f"{METHODS[0]}-{seeds[0]}" / "teacher" / "trained"
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        for method in METHODS:
            folder = out / f"{method}-{seed}"
            chosen = [f"method.name={method}", f"train.seed={seed}", *settings]
            if folder != teacher.parents[1]:
                chosen.append(f"teacher.weights={teacher}")
            found.setdefault(method, []).append(carried_out(recipe, folder, chosen))
    report(recipe, seeds, found)


def carried_out(recipe: str, folder: Path, settings: list[str]) -> dict[str, Any]:
    """One run of the main job; what its summary says of the student."""
    command = [sys.executable, "-m", "mldr_deploy", "distill-and-export", "--device", "cpu"]
    command += ["--recipe", recipe, "--out", str(folder)]
    for setting in settings:
        command += ["--set", setting]
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".src")}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    summary = json.loads((folder / "summary.json").read_text())
    student = next(row for row in summary["rows"] if row["name"].startswith("student "))
    return {"top1": student["top1"], "top5": student["top5"], "seconds": summary["seconds"]}


def report(recipe: str, seeds: list[int], found: dict[str, list[dict[str, Any]]]) -> None:
    """The table, the gains seed by seed, and the JSON line."""
    print(f"{recipe}, test top-1 % by seed {seeds}; training time of the student")
    for method, runs in found.items():
        scores = [run["top1"] for run in runs]
        listed = "  ".join(f"{score:6.2f}" for score in scores)
        seconds = statistics.mean(run["seconds"]["student"] for run in runs)
        print(f"{method:10} {listed}   mean {statistics.mean(scores):6.2f}   {seconds:6.0f} s")
    gains = {}
    for peer in METHODS[1:]:
        pairs = zip(found[METHODS[0]], found[peer], strict=True)
        gains[peer] = [round(ours["top1"] - theirs["top1"], 2) for ours, theirs in pairs]
        print(f"{METHODS[0]} over {peer}: {gains[peer]} points")
    print(json.dumps({"recipe": recipe, "seeds": seeds, "runs": found, "gains": gains}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="cifar100-cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("runs/gains"))
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    main(given.recipe, given.seeds, given.out, given.settings)
