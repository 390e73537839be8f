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
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..bundle.atomic import write_text, writing
from ..bundle.processor import usable_cores
from ..bundle.progress import Progress
from ..pipeline.phases import Pipeline
from .outcomes import Outcome
from .recent_data import RecentData
from .units import Unit
from .workers import (
    Failures,
    failed_since,
    failure,
    failures,
    is_lost,
    note_failure,
    sigterm_interrupts,
    work,
)

_POLL_SECONDS = 2.0
_JOBS = 4  # by default, at most
_SHELL = 128  # and a signal's number: how a shell tells of it
_ASKED = (0, -signal.SIGINT, -signal.SIGTERM, _SHELL + signal.SIGINT, _SHELL + signal.SIGTERM)
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
        """As `work`. On Ctrl-C and SIGTERM the processes write a checkpoint first.

        A run whose process is killed has failed; another process goes on with the rest.
        """
        if min(self.jobs, len(units)) == 1:
            work(units, device=device, data=data, progress=progress)
            return
        if not all(unit.finished for unit in units):
            with TemporaryDirectory(prefix="mldr-deploy-") as folder:
                began = time.time()
                _watch(self._start(units, device, Path(folder)), units, began, progress)
        failed = [unit for unit in units if failure(unit) is not None]
        cut_off = [unit for unit in units if not unit.finished and not is_lost(unit, failed)]
        end = f"a process ended early, the end of its log in {self.logs} says why"
        for unit in cut_off:
            note_failure(unit, end, progress)
        if failed:
            raise failures(failed)
        if cut_off:
            raise Failures(
                f"{cut_off[0].name} is not finished: {end}; the same command tries again"
            )

    def _start(self, units: Sequence[Unit], device: str, folder: Path) -> list[_RunProcess]:
        """The processes, of which each takes the next of ``units`` that no other has taken."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        usable, jobs, devices = usable_cores(), self.jobs, devices_of(device, self.jobs)
        processes = []
        with writing(self.logs):
            self.logs.mkdir(parents=True, exist_ok=True)
        for k in range(min(jobs, len(units))):
            threads = (k + 1) * usable // jobs - k * usable // jobs
            process = _RunProcess(
                device=devices[k % len(devices)],
                cores=cores[k * len(cores) // jobs : (k + 1) * len(cores) // jobs] or cores,
                threads=max(1, threads),
                log=self.logs / f"worker-{k}.log",
                current=folder / f"{k}.run",
            )
            process.start(units)
            processes.append(process)
        return processes


@dataclass(frozen=True)
class _NamedWork:
    """A run's work, during which ``file`` holds the run's folder: a killed process leaves it."""

    work: Callable[[Pipeline], Outcome]
    file: Path
    run: str

    def __call__(self, pipeline: Pipeline) -> Outcome:
        write_text(self.file, self.run)
        try:
            return self.work(pipeline)
        finally:
            self.file.unlink(missing_ok=True)


@dataclass(kw_only=True)
class _RunProcess:
    """A process that takes runs, with its share of this machine."""

    device: str
    cores: Sequence[int]
    threads: int
    log: Path
    current: Path  # names the run that it is at
    popen: subprocess.Popen[bytes] = field(init=False)

    def start(self, units: Sequence[Unit]) -> None:
        """Start it, or another in its place, for ``units``."""
        self.current.unlink(missing_ok=True)
        order = [
            replace(unit, work=_NamedWork(unit.work, self.current, str(unit.folder)))
            for unit in units
        ]
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mldr_deploy", "take-runs", str(self.log.parents[1])),
                    *("--device", self.device),
                ],
                env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                preexec_fn=_settled(self.cores),
            )
        _hand_over(self.popen, pickle.dumps(order))

    def fatal_run(self) -> str | None:
        """The folder of the run that ended it; None where none did, or it was asked to end."""
        if self.popen.poll() in _ASKED or not self.current.is_file():
            return None
        return self.current.read_text(encoding="utf-8")

    def end(self) -> str:
        """How it ended, in words."""
        code = self.popen.wait()
        number = -code if code < 0 else code - _SHELL
        if number == signal.SIGKILL:
            return f"its process was ended by signal {number}: out of memory?"
        words = f"was ended by signal {number}" if number > 0 else f"ended with code {code}"
        return f"its process {words}: the end of {self.log} says why"


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
    is_gpu = device.partition(":")[0].lower() in ("cuda", "mps")
    return len(devices_of(device, 2)) if is_gpu else min(usable_cores(), _JOBS)


def _hand_over(process: subprocess.Popen[bytes], order: bytes) -> None:
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(order)
    except BrokenPipeError:  # it ended at once; its log says why
        pass


def _watch(
    processes: Sequence[_RunProcess], units: Sequence[Unit], began: float, progress: Progress
) -> None:
    """Show how many runs are finished until all ``processes``, begun at ``began``, have ended.

    On Ctrl-C and SIGTERM they are asked to end; KeyboardInterrupt then.
    """
    displayed_count, running = 0, [*processes]
    with sigterm_interrupts():
        progress.start("runs finished", len(units))
        try:
            while running := [
                process
                for process in running
                if process.popen.poll() is None or _goes_on(process, units, began, progress)
            ]:
                finished_count = sum(unit.finished for unit in units)
                progress.advance(finished_count - displayed_count, workers=len(running))
                displayed_count = finished_count
                time.sleep(_POLL_SECONDS)
            progress.advance(sum(unit.finished for unit in units) - displayed_count)
        finally:
            for process in processes:
                if process.popen.poll() is None:
                    process.popen.terminate()
            for process in processes:
                process.popen.wait()
            progress.finish()


def _goes_on(process: _RunProcess, units: Sequence[Unit], began: float, progress: Progress) -> bool:
    """Whether another was started for an ended process: a run killed it, and others are open.

    That run has failed then. What ends a process between runs would end another too.
    """
    folder = process.fatal_run()
    if folder is None:
        return False
    for unit in units:
        if str(unit.folder) == folder and not unit.finished:
            note_failure(unit, process.end(), progress)
    failed = [unit for unit in units if failed_since(unit, began)]
    rest = [unit for unit in units if not is_lost(unit, failed)]
    if all(unit.finished for unit in rest):
        return False
    process.start(rest)
    return True


def _settled(cores: Sequence[int]) -> Callable[[], None]:
    """What a new process does first: stay on ``cores``, and end in good order with its parent."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None

    def settle() -> None:
        if cores:
            os.sched_setaffinity(0, cores)
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return settle
