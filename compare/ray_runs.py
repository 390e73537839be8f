"""Runs as tasks of a Ray cluster: placed by their resources, and repeated where a worker dies.

Ray carries the order to do a run and whether it was done. What a run leaves lies in its folder, on
a file system that all machines share, with the locks and checkpoints of any other run; so one that
is begun again goes on from its last checkpoint, to the same bits.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from ..bundle.atomic import writing
from ..bundle.processor import usable_cores
from ..bundle.progress import Progress
from ..bundle.ray_cluster import ray_cluster, require_ray
from ..bundle.wording import counted
from ..errors import MldrError, Unavailable
from .ray_task import RunReport, WorkerTerms, carry_out
from .recent_data import RecentData
from .units import Unit
from .workers import Work, failures, is_lost, note_failure, sigterm_interrupts

_POLL_SECONDS = 2.0
_RETRIES = 3  # of a run whose worker died


def training_engine(name: str, cores: int, jobs: int) -> Work | None:
    """What carries out trainings: ray, a cluster, with ``cores`` a run; None for local.

    Raises MldrError for another name, several ``jobs`` on Ray, and a cluster that does not answer
    or has no room; Unavailable where Ray is not installed.
    """
    if name == "local":
        return None
    if name != "ray" or cores < 1:
        raise MldrError(
            f"engine {name}, cores of a run {cores}: allowed are local, and ray with one or more"
        )
    if jobs > 1:
        raise MldrError(
            f"{jobs} jobs are for the local engine: Ray carries out as many runs as there is room "
            "for (run_cores)"
        )
    require_ray("--engine ray needs Ray", "ray")
    runs = RayRuns(cores, os.environ.get("RAY_ADDRESS") or None)
    runs.require_room()
    return runs


class RayRuns:
    """Carries out runs on the cluster at ``address``; None: on one of this machine. A `Work`."""

    def __init__(self, cores: int, address: str | None) -> None:
        self.cores, self.address = cores, address

    def __call__(
        self, units: Sequence[Unit], *, device: str, data: RecentData, progress: Progress
    ) -> None:
        """Carry out ``units``, each as a task; returns when all are finished.

        As `work` otherwise. Every worker reads its own ``data``. On Ctrl-C and SIGTERM tasks are
        cancelled, and write a checkpoint first. A cluster of this machine ends with the call.
        """
        del data
        if all(unit.finished for unit in units):
            return
        with (
            _without_rays_words(),
            sigterm_interrupts(),
            ray_cluster(self.address),
            sigterm_interrupts(),  # again: Ray puts a handler of its own in the place of the first
        ):
            options = {"num_cpus": self.cores, "num_gpus": int(_on_gpu(device))}
            _Tasks(units, options, WorkerTerms.here(self.cores), progress).complete()

    def require_room(self) -> None:
        """Raises MldrError when no machine has the cores of a run, or the cluster is not there."""
        most = float(usable_cores())
        if self.address is not None:
            with ray_cluster(self.address):
                most = max(machine.get("CPU", 0.0) for machine in _machines())
        if self.cores > most:
            place = "this machine" if self.address is None else "any machine of the Ray cluster"
            raise MldrError(f"--run-cores {self.cores} are more than {place} has: {most:g}")


class _Tasks:
    """Runs that are handed to Ray; ``options`` are the resources of each."""

    def __init__(
        self,
        units: Sequence[Unit],
        options: dict[str, int],
        terms: WorkerTerms,
        progress: Progress,
    ) -> None:
        self.units, self.options, self.terms, self.progress = units, options, terms, progress
        self.running: dict[Any, Unit] = {}  # by Ray's reference
        self.failed: list[Unit] = []
        self.deaths: Counter[Path] = Counter()  # of workers, by the run's folder

    def complete(self) -> None:
        """Return when all are finished. Raises Failures, and Unavailable for what a machine lacks.

        Whatever it ends with, no task goes on.
        """
        self.progress.start("runs", len(self.units))
        displayed_count = 0
        try:
            while pending := [unit for unit in self.units if not unit.finished]:
                finished_count = len(self.units) - len(pending)
                self.progress.advance(finished_count - displayed_count)
                displayed_count = finished_count
                if all(is_lost(unit, self.failed) for unit in pending):
                    raise failures(self.failed)
                self._submit(pending)
                self._await()
            self.progress.advance(len(self.units) - displayed_count)
        finally:
            self._cancel()
            self.progress.finish()

    def _submit(self, pending: Sequence[Unit]) -> None:
        """Hand all that can begin to Ray, which lets them wait for room."""
        import ray

        task = ray.remote(carry_out)
        device = "cuda" if self.options["num_gpus"] else "cpu"
        for unit in pending:
            if unit.ready and not is_lost(unit, self.failed) and unit not in self.running.values():
                with writing(unit.folder):
                    unit.folder.mkdir(parents=True, exist_ok=True)  # workers must see it
                # Ray itself would repeat it in silence, and without end where memory is short.
                order = task.options(name=unit.name, max_retries=0, **self.options)
                self.running[order.remote(unit, device, self.terms)] = unit

    def _await(self) -> None:
        """Wait a moment for a task, and take it out of those that run."""
        import ray

        if not self.running:  # all that is open needs a run that another process is at
            time.sleep(_POLL_SECONDS)
            return
        ended, _ = ray.wait([*self.running], num_returns=1, timeout=_POLL_SECONDS)
        for reference in ended:
            unit = self.running.pop(reference)
            report = _report(reference)
            if report.state == "unavailable":
                raise Unavailable(report.reason)
            if report.state == "failed":
                self._note_failure(unit, report.reason)
            elif report.state == "died":
                self._note_death(unit, report.reason)
            elif not unit.finished:  # another process has it, or its file is not visible here yet
                time.sleep(_POLL_SECONDS)

    def _note_death(self, unit: Unit, reason: str) -> None:
        self.deaths[unit.folder] += 1
        count = self.deaths[unit.folder]
        if count > _RETRIES:
            self._note_failure(unit, f"its worker died {counted(count, 'time')}: {reason}")
        else:
            self.progress.note(
                f"{unit.name}: its worker died; begun again, {count} of {_RETRIES} times"
            )

    def _note_failure(self, unit: Unit, reason: str) -> None:
        note_failure(unit, reason, self.progress)
        self.failed.append(unit)

    def _cancel(self) -> None:
        """Interrupt tasks, and wait until they have written what they resume from."""
        import ray

        if not self.running:
            return
        self.progress.note(f"{counted(len(self.running), 'run')} on Ray: asked to end")
        for reference in self.running:
            ray.cancel(reference, force=False)
        ray.wait([*self.running], num_returns=len(self.running))


def _report(reference: Any) -> RunReport:
    """How a task ended, by itself or with its worker."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        report: RunReport = ray.get(reference)
    except RayError as error:
        line = " ".join(str(error).split())
        _, marker, tail = line.partition("No module named ")
        if marker:
            return RunReport(
                "unavailable",
                f"a machine of the Ray cluster has no module {tail.split()[0]}: install the same "
                "packages, and run Ray in their environment, on all machines",
            )
        if isinstance(error, RayTaskError):  # the code of a run failed: no expected end
            raise
        return RunReport("died", line[:200])
    return report


@contextmanager
def _without_rays_words() -> Iterator[None]:
    """Drops what is printed in the block: Ray tells of dead machines on stdout, in many lines."""
    with Path(os.devnull).open("w", encoding="utf-8") as sink, redirect_stdout(sink):
        yield


def _machines() -> list[dict[str, float]]:
    """Resources of each machine of the cluster that this process is connected to."""
    import ray

    list_machines: Any = ray.nodes  # Ray has no type of it
    return [machine["Resources"] for machine in list_machines() if machine["Alive"]]


def _on_gpu(device: str) -> bool:
    """Whether runs on ``device`` compute on GPUs of the cluster.

    Raises MldrError for what Ray cannot hand out, Unavailable where there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise MldrError(f"--device {device}: runs on Ray take auto, cpu or cuda, a GPU for each")
    has_gpu = any(machine.get("GPU", 0) >= 1 for machine in _machines())
    if device == "cuda" and not has_gpu:
        raise Unavailable("--device cuda: no machine of the Ray cluster has a GPU")
    return has_gpu and device != "cpu"
