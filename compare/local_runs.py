"""Runs side by side: processes that take them, each with its share of this machine."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..bundle.atomic import writing
from ..bundle.processor import usable_cores
from ..bundle.progress import Progress
from .recent_data import RecentData
from .units import Unit
from .workers import Failures, failure, failures, sigterm_interrupts, work

_POLL_SECONDS = 2.0
_JOBS = 4  # by default, at most
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class LocalRuns:
    """Carries out runs on this machine, ``jobs`` at a time. A `Work`.

    On a CPU each run has its share of the cores; one that is alone has all. GPUs are taken in turn.
    Process k logs to ``logs``/worker-k.log.
    """

    def __init__(self, jobs: int, logs: Path) -> None:
        self.jobs, self.logs = jobs, logs

    def __call__(
        self, units: Sequence[Unit], *, device: str, data: RecentData, progress: Progress
    ) -> None:
        """As `work`. On Ctrl-C and SIGTERM the processes write a checkpoint first."""
        if min(self.jobs, len(units)) == 1:
            work(units, device=device, data=data, progress=progress)
            return
        if not all(unit.finished for unit in units):
            _watch(self._start(units, device), units, progress)
        if failed := [unit for unit in units if failure(unit) is not None]:
            raise failures(failed)
        if unfinished := [unit for unit in units if not unit.finished]:
            raise Failures(
                f"{unfinished[0].name} is not finished: a process ended early, the end of its log "
                f"in {self.logs} says why; the same command tries again"
            )

    def _start(self, units: Sequence[Unit], device: str) -> list[subprocess.Popen[bytes]]:
        """The processes, of which each takes the next of ``units`` that no other has taken."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        usable, jobs, devices = usable_cores(), self.jobs, devices_of(device, self.jobs)
        order, processes = pickle.dumps(list(units)), []
        with writing(self.logs):
            self.logs.mkdir(parents=True, exist_ok=True)
        for k in range(min(jobs, len(units))):
            own_cores = cores[k * len(cores) // jobs : (k + 1) * len(cores) // jobs] or cores
            threads = (k + 1) * usable // jobs - k * usable // jobs
            with (self.logs / f"worker-{k}.log").open("ab") as log:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "mldr_deploy", "take-runs", str(self.logs.parent)),
                        *("--device", devices[k % len(devices)]),
                    ],
                    env={**os.environ, "OMP_NUM_THREADS": str(max(1, threads))},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    preexec_fn=_settled(own_cores),
                )
            processes.append(process)
            _hand_over(process, order)
        return processes


def devices_of(device: str, jobs: int) -> list[str]:
    """Where ``jobs`` runs compute: in turn on every GPU, or all on ``device``."""
    import torch

    if jobs > 1 and device in ("auto", "cuda") and torch.cuda.is_available():
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [device]


def jobs_here(device: str) -> int:
    """How many trainings at once this machine is good for: one a core, four at most; one a GPU.

    Small students leave further threads little to do, and each process takes memory.
    """
    return len(devices_of(device, 2)) if device == "cuda" else min(usable_cores(), _JOBS)


def _hand_over(process: subprocess.Popen[bytes], order: bytes) -> None:
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(order)
    except BrokenPipeError:  # it ended at once; its log says why
        pass


def _watch(
    processes: Sequence[subprocess.Popen[bytes]], units: Sequence[Unit], progress: Progress
) -> None:
    """Show how many runs are finished until all ``processes`` have ended.

    On Ctrl-C and SIGTERM they are asked to end; KeyboardInterrupt then.
    """
    displayed_count = 0
    with sigterm_interrupts():
        progress.start("runs finished", len(units))
        try:
            while running := [process for process in processes if process.poll() is None]:
                finished_count = sum(unit.finished for unit in units)
                progress.advance(finished_count - displayed_count, workers=len(running))
                displayed_count = finished_count
                time.sleep(_POLL_SECONDS)
            progress.advance(sum(unit.finished for unit in units) - displayed_count)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                process.wait()
            progress.finish()


def _settled(cores: Sequence[int]) -> Callable[[], None]:
    """What a new process does first: stay on ``cores``, and end in good order with its parent."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None

    def settle() -> None:
        if cores:
            os.sched_setaffinity(0, cores)
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return settle
