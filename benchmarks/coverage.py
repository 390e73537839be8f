"""Every timm model class as student and as teacher: stages, two MLDR-KD steps, ONNX, parity.

    python benchmarks/coverage.py [--out runs/coverage] [--only PART_OF_A_NAME ...]

Of every class that offers `forward_intermediates` (Vision Mamba is among them) the variant with the
fewest parameters is taken, at the smallest image side that it works at. It distils from a fresh
ResNet-10-T for two steps, answers as a teacher, is exported, and the bundle's fp32 gate compares
ONNX Runtime with PyTorch on 16 real images, at batch 1, 2 and 5 (coverage_steps.py). Each model has
a process of its own, with limits on memory and on processor seconds. What was looked at is kept,
line by line, in results.jsonl: the same command goes on, and a line deleted there is done again.
--write makes docs/results/coverage.md and .json of it. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

from coverage_report import summarise, write
from coverage_steps import CLASSES, IMAGES, examine

from mldr_deploy.bundle.atomic import write_text
from mldr_deploy.bundle.progress import Progress
from mldr_deploy.cli.console import progress
from mldr_deploy.errors import Unavailable

ROOT = Path(__file__).resolve().parents[1]


def main(
    out: Path, only: list[str], *, large: float, memory: float, seconds: float, report: bool
) -> None:
    """Do what is missing, print a line a model and the JSON line."""
    with progress() as bar:
        pictures = real_images(out / "images", bar)
        chosen = smallest(classes(out / "classes.json", bar))
        done = {row["class"]: row for row in rows(out / "results.jsonl")}
        missing = [c for c in chosen if c["class"] not in done and wanted(c, only)]
        bar.start("models", len(missing))
        for candidate in missing:
            candidate["shallow"] = candidate["parameters"] > large
            row = confined(candidate, out, pictures, memory=memory, seconds=seconds)
            done[row["class"]] = row
            with (out / "results.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            bar.note(one_line(row))
            bar.advance(1, failed=sum(not r["passed"] for r in done.values()))
        bar.finish()
    found = [done[c["class"]] for c in chosen if c["class"] in done]
    if report:
        write(found, [c["class"] for c in chosen], ROOT / "docs" / "results")
    print(json.dumps(summarise(found, len(chosen))))


def wanted(candidate: dict[str, Any], only: list[str]) -> bool:
    """Whether a part of the class's or the model's name was asked for; all are by default."""
    names = f"{candidate['class']} {candidate['model']}".lower()
    return not only or any(part.lower() in names for part in only)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The finished lines; a line cut off by a kill is not one."""
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def classes(kept: Path, bar: Progress) -> list[dict[str, Any]]:
    """Every published model with its class and its size, and whether the class has stages."""
    if kept.exists():
        known: list[dict[str, Any]] = json.loads(kept.read_text())
        return known
    import timm
    import torch

    from mldr_deploy.models.model_registry import list_models

    found: list[dict[str, Any]] = []
    names = [name for name in list_models() if not name.startswith("test_")]  # timm's own toys
    bar.start("classes", len(names))
    for name in names:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = timm.create_model(name)
        kind = type(model)
        found.append(
            {
                "class": f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}",
                "model": name,
                "parameters": sum(p.numel() for p in model.parameters()),
                "stages": hasattr(model, "forward_intermediates"),
            }
        )
        bar.advance()
    bar.finish()
    write_text(kept, json.dumps(found))
    return found


def smallest(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One of each class that offers stages, the smaller ones first."""
    best: dict[str, dict[str, Any]] = {}
    for model in sorted(models, key=lambda m: m["parameters"]):
        if model["stages"]:
            best.setdefault(model["class"], model)
    return list(best.values())


def real_images(folder: Path, bar: Progress) -> Path:
    """A class folder of CIFAR-100 where it lies on this machine, else of digits; losslessly."""
    from mldr_deploy.data.data_config import DataConfig
    from mldr_deploy.data.dataset import load_dataset

    if folder.exists():
        return folder
    try:
        dataset = load_dataset(DataConfig(source="cifar100", download=False), progress=bar)
    except Unavailable:
        dataset = load_dataset(DataConfig(source="digits"), progress=bar)
    for name, split in (("train", dataset.train), ("val", dataset.test)):
        for label in range(CLASSES):
            rows = (i for i, own in enumerate(split.labels) if own == label)
            for number in range(IMAGES // CLASSES):
                path = folder.with_suffix(".part") / name / dataset.classes[label] / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                split.image(next(rows)).save(path)
    folder.with_suffix(".part").rename(folder)
    return folder


def confined(
    candidate: dict[str, Any], out: Path, pictures: Path, *, memory: float, seconds: float
) -> dict[str, Any]:
    """`examine` in a process of its own; one that outgrows its limits is killed and has failed."""
    import psutil

    context = multiprocessing.get_context("forkserver")  # a fork of one that has imported it all
    context.set_forkserver_preload(["coverage_warm"])
    ours, theirs = context.Pipe(duplex=False)
    work = out / "work"
    process = context.Process(target=examine, args=(candidate, work, pictures, theirs))
    process.start()
    theirs.close()
    row = {**candidate, "passed": False, "failed_at": "start", "peak_gib": 0.0}
    watched = psutil.Process(process.pid)
    try:
        while True:
            if ours.poll(0.5):
                row |= ours.recv()  # ends with EOFError when the process does
                continue
            used = sum(watched.cpu_times()[:2])
            row["peak_gib"] = max(row["peak_gib"], round(watched.memory_info().rss / 2**30, 2))
            over = [f"{used:.0f} s of processor time"] * (used > seconds)
            over += [f"{row['peak_gib']} GiB of memory"] * (row["peak_gib"] > memory)
            if over:
                row["reason"] = f"stopped after {over[0]}"
                break
    except (EOFError, psutil.Error):
        process.join(10)
    finally:  # Ctrl-C and kill leave nothing behind
        process.kill()
        process.join()
    shutil.rmtree(work, ignore_errors=True)
    if not row["passed"]:
        row.setdefault("reason", f"the process ended with {process.exitcode}")
    return row


def one_line(row: dict[str, Any]) -> str:
    """What became of one model."""
    if row["passed"]:
        end = f"{row['export_seconds']} s, {row['nodes']} nodes, |dlogit| {row['max_dlogit']:.1e}"
    else:
        end = f"FAILED at {row['failed_at']}: {row['reason'][:200]}"
    return f"{row['class']:44s} {row['model']:36s} {end}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/coverage"))
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="part of a name")
    parser.add_argument(
        "--large", type=float, default=40, help="millions of parameters that become shallower"
    )
    parser.add_argument("--memory", type=float, default=3.5, help="GiB a model may take")
    parser.add_argument("--seconds", type=float, default=400, help="processor seconds a model")
    parser.add_argument("--write", action="store_true", help="write docs/results/coverage.*")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Python 3.11's fork server keeps neither the script's folder nor what was put into sys.path.
    paths = [str(ROOT / ".src"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(
        given.out,
        given.only,
        large=1e6 * given.large,
        memory=given.memory,
        seconds=given.seconds,
        report=given.write,
    )
