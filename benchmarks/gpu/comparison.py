"""The comparison of methods, by processes side by side, until its time is over; then its report."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from typing import Any

from orphans import end_with_parent
from results import Part, Results, Row
from runner import Cases
from scale import Scale
from side_by_side import best, sharing

_PROCESSES = 4  # where step 1 did not find out what is best


def train_cases(scale: Scale, results: Results, part: Part) -> Cases:
    """Everything to be trained."""
    return {"train": lambda: train(scale, results, part)}


def train(scale: Scale, results: Results, part: Part) -> Row:
    """Take runs until none is left; what is asked to stop keeps a checkpoint where it can."""
    from mldr_deploy.compare.comparison import MethodComparison

    count, service = best(results) or (min(_PROCESSES, scale.cores), False)
    comparison = MethodComparison.open(scale.comparison, results.comparison)
    began = time.perf_counter()
    with sharing(service) as shared:
        part.write("arrangement", {"processes": count, "service": shared})
        workers = start(scale, comparison, count)
        asked: list[int] = []  # the workers hear it as well, and end
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
        for worker in workers:
            worker.join()
    if asked:
        raise SystemExit("the time is over; what is finished is kept")
    ended = [worker.exitcode for worker in workers]
    if any(ended):
        raise RuntimeError(f"workers ended with {ended}, see output.txt")
    return {"runs": len(comparison.runs()), "seconds": round(time.perf_counter() - began, 1)}


def start(scale: Scale, comparison: Any, count: int) -> list[Any]:
    """``count`` forked workers that share the data, which are read once."""
    comparison.data.load(comparison.runs()[0].recipe.data)
    fork = multiprocessing.get_context("fork")
    workers = []
    for number in range(count):
        arguments = (scale, comparison, count, number, os.getpid())
        worker = fork.Process(target=take_runs, args=arguments)
        worker.start()
        workers.append(worker)
    return workers


def take_runs(scale: Scale, comparison: Any, count: int, number: int, parent: int) -> None:
    """In a worker: what `mldr-deploy compare --jobs` has its workers do."""
    end_with_parent(parent)
    import torch

    from mldr_deploy.bundle.progress import Silent

    torch.set_num_threads(scale.threads(count))
    comparison.train(scale.device, Notes(Silent(), number))


class Notes:
    """A ``Progress`` whose notes go to the output."""

    def __init__(self, silent: Any, number: int) -> None:
        self.start, self.advance, self.finish = silent.start, silent.advance, silent.finish
        self.number = number

    def note(self, text: str) -> None:
        """A line with the time of day and the worker's number."""
        print(f"{time.strftime('%H:%M:%S')} worker {self.number}: {text}", flush=True)


def report_cases(scale: Scale, results: Results, part: Part) -> Cases:
    """The table of what is finished."""
    return {"report": lambda: report(scale, results)}


def report(scale: Scale, results: Results) -> Row:
    """What `mldr-deploy compare --report-only` writes and prints; what is missing by name."""
    from mldr_deploy.cli.group import main

    arguments = ["compare", str(scale.comparison), "--out", str(results.comparison)]
    main([*arguments, "--report-only", "--quiet"], standalone_mode=False)
    written = json.loads((results.comparison / "results.json").read_text())
    return {"missing": written["missing"], "failed_runs": written["failed"]}
