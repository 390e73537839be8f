"""Runs as tasks of a Ray cluster: placed by their resources, and repeated where a worker dies.

Ray carries the order to do a run and whether it was done. What a run leaves lies in its folder, on
a file system that all machines share, with the locks and checkpoints of any other run; so one that
is begun again goes on from its last checkpoint, to the same bits.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ..bundle.progress import Progress, Silent
from ..bundle.ray_cluster import ray_cluster, require_ray
from ..errors import MldrError, Unavailable
from ..pipeline.workspace import Busy
from .recent_data import RecentData
from .units import Unit
from .workers import Work, attempt, failures, is_lost, note_failure, sigterm_interrupts, work

_POLL_SECONDS = 2.0
_RETRIES = 3  # of a run whose worker died
_DATA_ROOT = "MLDR_DATA"
_PACKAGES = ("mldr-deploy", "torch", "timm")


@dataclass(frozen=True)
class RunEngine:
    """What carries out runs: this process, or Ray with ``run_cores`` for each."""

    name: str = "local"  # or ray
    run_cores: int = 1

    def __post_init__(self) -> None:
        """Raises MldrError for an engine that does not exist."""
        if self.name not in ("local", "ray") or self.run_cores < 1:
            raise MldrError(
                f"engine {self.name} with {self.run_cores} cores a run: allowed are local and ray, "
                "with one core or more"
            )


LOCAL = RunEngine()


@contextmanager
def run_engine(engine: RunEngine) -> Iterator[Work]:
    """The engine, ready to work.

    Ray: the cluster that $RAY_ADDRESS names, else one on this machine that ends with the block.
    Raises Unavailable where Ray is not installed, MldrError where it does not start.
    """
    if engine.name == "local":
        yield work
        return
    require_ray("--engine ray needs Ray", "ray")
    with ray_cluster(os.environ.get("RAY_ADDRESS") or None):
        yield RayRuns(engine.run_cores)


@dataclass(frozen=True)
class WorkerTerms:
    """What a worker takes over from the process that sends it runs."""

    folder: str  # that relative paths begin at
    threads: int
    data_root: str | None
    versions: dict[str, str]


@dataclass(frozen=True)
class RunReport:
    """How a task ended."""

    state: Literal["done", "busy", "failed", "unavailable"]
    reason: str = ""


class RayRuns:
    """Carries out runs on the cluster that this process is connected to. A `Work`."""

    def __init__(self, cores: int) -> None:
        self.cores = cores

    def __call__(
        self, units: Sequence[Unit], *, device: str, data: RecentData, progress: Progress
    ) -> None:
        """Carry out ``units``, each as a task; returns when all are finished.

        As `work` otherwise. Every worker reads its own ``data``. On Ctrl-C and SIGTERM tasks are
        cancelled, and write a checkpoint first.
        """
        del data
        device = self.require_room(device)
        running: dict[Any, Unit] = {}
        failed: list[Unit] = []
        progress.start("runs", len(units))
        displayed_count = 0
        try:
            with sigterm_interrupts():
                while pending := [unit for unit in units if not unit.finished]:
                    finished_count = len(units) - len(pending)
                    progress.advance(finished_count - displayed_count, tasks=len(running))
                    displayed_count = finished_count
                    if all(is_lost(unit, failed) for unit in pending):
                        raise failures(failed)
                    self._submit(pending, failed, running, device)
                    failed += _ended(running, progress)
            progress.advance(len(units) - displayed_count)
        finally:
            _cancel([*running])
            progress.finish()

    def require_room(self, device: str) -> str:
        """Where runs on ``device`` compute: cpu, cuda or mps. Raises where no machine has room.

        That is MldrError for cores, Unavailable for a GPU.
        """
        import ray

        list_machines: Any = ray.nodes  # Ray has no type of it
        machines = [machine["Resources"] for machine in list_machines() if machine["Alive"]]
        most = max(machine.get("CPU", 0) for machine in machines)
        if self.cores > most:
            raise MldrError(
                f"--run-cores {self.cores}: no machine of the Ray cluster has more than {most:g}"
            )
        if device.startswith("cuda:"):
            raise MldrError(f"--device {device}: Ray itself hands out the GPUs, give --device cuda")
        has_gpu = any(machine.get("GPU", 0) >= 1 for machine in machines)
        if device == "cuda" and not has_gpu:
            raise Unavailable("--device cuda: no machine of the Ray cluster has a GPU")
        if device == "auto":
            return "cuda" if has_gpu else "cpu"
        return device

    def _submit(
        self, pending: Sequence[Unit], failed: Sequence[Unit], running: dict[Any, Unit], device: str
    ) -> None:
        """Hand all that can begin to Ray, which lets them wait for room."""
        import ray

        task = ray.remote(carry_out)
        terms = WorkerTerms(
            folder=str(Path.cwd()),
            threads=self.cores,
            data_root=os.environ.get(_DATA_ROOT),
            versions=_versions(),
        )
        for unit in pending:
            if unit.ready and not is_lost(unit, failed) and unit not in running.values():
                unit.folder.mkdir(parents=True, exist_ok=True)
                options = {
                    "name": unit.name,
                    "num_cpus": self.cores,
                    "num_gpus": int(device == "cuda"),
                    "max_retries": _RETRIES,
                }
                running[task.options(**options).remote(unit, device, terms)] = unit


_DATA = RecentData()  # of a worker


def carry_out(unit: Unit, device: str, terms: WorkerTerms) -> RunReport:
    """The task: ``unit`` on the worker's machine."""
    import torch

    host = platform.node()
    if (difference := _difference(terms.versions)) is not None:
        return RunReport(
            "unavailable", f"{host} has {difference}: install the same on all machines"
        )
    folder = Path(terms.folder, unit.folder)
    if not folder.is_dir():
        return RunReport(
            "unavailable",
            f"{host} does not see {folder}: --out and the folder in which the command is given "
            "must lie on a file system that all machines share",
        )
    os.chdir(terms.folder)
    if terms.data_root is not None:
        os.environ.setdefault(_DATA_ROOT, terms.data_root)
    os.environ["OMP_NUM_THREADS"] = str(terms.threads)
    torch.set_num_threads(terms.threads)
    try:
        reason = attempt(unit, device, _DATA, Silent())
    except Busy:
        return RunReport("busy")
    except Unavailable as error:
        return RunReport("unavailable", f"{host}: {error}")
    return RunReport("done") if reason is None else RunReport("failed", reason)


def _ended(running: dict[Any, Unit], progress: Progress) -> list[Unit]:
    """Take tasks that have ended out of ``running``; the units that failed.

    Waits a moment for one. Raises Unavailable for what a machine lacks.
    """
    import ray

    if not running:  # all that is left needs a run that another process is at
        time.sleep(_POLL_SECONDS)
        return []
    ready, _ = ray.wait([*running], num_returns=1, timeout=_POLL_SECONDS)
    failed = []
    for reference in ready:
        unit = running.pop(reference)
        report = _report(reference)
        if report.state == "unavailable":
            raise Unavailable(report.reason)
        if report.state == "failed":
            note_failure(unit, report.reason, progress)
            failed.append(unit)
        elif not unit.finished:  # another process has it, or its file is not visible here yet
            time.sleep(_POLL_SECONDS)
    return failed


def _report(reference: Any) -> RunReport:
    """How a task ended, by itself or with its worker."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        report: RunReport = ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, ImportError):
            return RunReport(
                "unavailable", f"a worker of the Ray cluster lacks a package: {error.cause}"
            )
        raise
    except RayError as error:
        line = " ".join(str(error).split())[:200]
        return RunReport("failed", f"its worker died {_RETRIES + 1} times: {line}")
    return report


def _cancel(references: list[Any]) -> None:
    """Interrupt tasks, and wait until they have written what they resume from."""
    import ray

    for reference in references:
        ray.cancel(reference, force=False)
    if references:
        ray.wait(references, num_returns=len(references))


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def _difference(versions: dict[str, str]) -> str | None:
    """A package that is another here than where the runs come from, in words."""
    for name, here in _versions().items():
        if here != versions[name]:
            return f"{name} {here}, not {versions[name]}"
    return None
