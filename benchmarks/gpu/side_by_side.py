"""Throughput by the number of processes that train small students side by side on one GPU.

All processes are forked and made ready once; then the first N of them train at the same time, for
each N. With the multi-process service their kernels share the GPU truly at the same time.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from machine import arithmetic
from mps import CONTROL, multi_process_service
from orphans import end_with_parent
from results import Part, Results, Row
from runner import Cases
from scale import Scale

_WARM_UP = 5
_STEPS = 10  # between two looks at the clock
_LEAD = 0.2  # seconds until all have heard that they begin


@contextmanager
def crew(scale: Scale, count: int) -> Iterator[list[Connection]]:
    """Pipes to ``count`` processes that are ready to train; they are gone afterwards."""
    fork = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for _ in range(count):
        ours, theirs = fork.Pipe()
        process = fork.Process(target=train, args=(scale, count, theirs, os.getpid()), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
        theirs.close()
    try:
        for pipe in pipes:
            pipe.recv()  # raises EOFError where one has died: its traceback is in output.txt
        yield pipes
    finally:
        for process in processes:
            process.kill()
            process.join()


def train(scale: Scale, count: int, pipe: Connection, parent: int) -> None:
    """In a process of its own: steps whenever the pipe says from when until when."""
    end_with_parent(parent)
    import step as bench
    import torch

    torch.set_num_threads(scale.threads(count))
    trainer, batch = student(scale)
    work = bench.trainer_step(trainer)
    for _ in range(_WARM_UP):
        work()
    bench.now(scale.device)
    pipe.send("ready")
    while True:
        begin, end = pipe.recv()
        time.sleep(max(0.0, begin - time.time()))
        pipe.send(batch * steps_per_second(work, bench.now, scale, end))


def steps_per_second(
    work: Callable[[], object], now: Callable[[str], float], scale: Scale, end: float
) -> float:
    """Steps a second until ``end``."""
    began, steps = time.time(), 0
    while time.time() < end:
        for _ in range(_STEPS if scale.device == "cuda" else 1):
            work()
            steps += 1
        now(scale.device)
    return steps / (time.time() - began)


def student(scale: Scale) -> tuple[Any, int]:
    """Trainer and batch of the comparison's first pair, the teacher's logits at hand."""
    import step as bench

    from mldr_deploy.compare.matrix import load_matrix

    matrix = load_matrix(scale.comparison)
    recipe = matrix.section(next(iter(matrix.pairs)), matrix.focus, matrix.seeds[0])
    pictures = bench.pictures(recipe.data.batch_size * 4)
    phase = bench.phase_of(recipe, pictures, scale.device, Path(mkdtemp()))
    return bench.ready(phase, recipe, recipe.method.name, views=1), recipe.data.batch_size


def cases(scale: Scale, part: Part, *, service: bool) -> Cases:
    """One case, since its processes are made ready once; a row for every number of them."""

    def all_counts() -> Row:
        with sharing(service) as started:
            if service and not started:
                return {"absent": f"{CONTROL} is missing or did not start"}
            with crew(scale, max(scale.processes)) as pipes:
                for count in scale.processes:
                    row = {"processes": count, "service": service, **rate(scale, pipes[:count])}
                    part.write(f"{count} processes", row)
        return {}

    return {"all": all_counts}


def sharing(service: bool) -> AbstractContextManager[bool]:
    """The multi-process service where it is asked for."""
    return multi_process_service() if service else nullcontext(False)


def rate(scale: Scale, pipes: list[Connection]) -> Row:
    """Images a second of the processes behind ``pipes`` together."""
    begin = time.time() + _LEAD
    for pipe in pipes:
        pipe.send((begin, begin + scale.seconds))
    rates = [pipe.recv() for pipe in pipes]
    on_gpu = scale.device == "cuda"  # the comparison's recipe says bf16, its rehearsal fp32
    return {"images_per_second": round(sum(rates), 1), "arithmetic": arithmetic(bf16=on_gpu)}


def best(results: Results) -> tuple[int, bool] | None:
    """(processes, with the service) that trained fastest, where it was measured."""
    rows = [
        row
        for name in ("processes", "processes-mps")
        for row in results.part(name).rows.values()
        if "images_per_second" in row
    ]
    if not rows:
        return None
    fastest = max(rows, key=lambda row: row["images_per_second"])
    return fastest["processes"], fastest["service"]
