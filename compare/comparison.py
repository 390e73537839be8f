"""A whole comparison: its runs in order, one export a pair, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..bundle.atomic import write_json, write_text
from ..bundle.progress import Progress
from ..errors import MldrError
from .local_runs import LocalRuns
from .matrix import Matrix, load_matrix
from .pictures import draw
from .recent_data import RecentData
from .results import Results, collect
from .table import markdown
from .units import (
    StudentUnit,
    Unit,
    best_settings,
    exports,
    require_same_pictures,
    students,
    teachers,
    tuning,
)
from .workers import Failures, Work, failure, work


@dataclass(frozen=True)
class MethodComparison:
    """A matrix in its folder."""

    matrix: Matrix
    file: Path
    out: Path
    data: RecentData = field(default_factory=RecentData)
    train_units: Work = work  # carries out the trainings

    @classmethod
    def open(cls, file: Path, out: Path | None) -> MethodComparison:
        """The comparison of ``file`` in ``out`` (default: runs/ and its name).

        Raises MldrError for a file that is not a comparison, and when ``out`` holds finished runs
        of other recipes.
        """
        matrix = load_matrix(file)
        comparison = cls(matrix, file, out or Path("runs") / matrix.name)
        comparison._require_same()
        return comparison

    def runs(self) -> list[Unit]:
        """Everything to be trained, as far as it is settled: students wait for the tuning."""
        trials = tuning(self.matrix, self.out)
        teacher_runs = list(teachers(self.matrix, self.out).values())
        if all(trial.finished for trial in trials):
            return [*teacher_runs, *trials, *self._students()]
        return [*teacher_runs, *trials]

    def train(self, device: str, progress: Progress) -> None:
        """Take runs until none is left. Raises Failures when some did not work out.

        Raises MldrError when what is finished saw other pictures than there are now.
        """
        self._require_same_pictures(progress)
        trials: list[Unit] = list(tuning(self.matrix, self.out))
        if trials:
            needed = {unit.folder: unit for trial in trials if (unit := trial.needs) is not None}
            self._train([*needed.values(), *trials], device, progress)
            self._require_same()
        self._train(self.runs(), device, progress)

    def export(self, device: str, progress: Progress) -> None:
        """Export, prove and time one finished student of each pair."""
        ready = [unit for unit in self._exports() if unit.ready]
        work(ready, device=device, data=self.data, progress=progress)  # here: it is timed

    def report(self, progress: Progress) -> Results:
        """Write results.json, table.md and the pictures of what is finished."""
        runs, trials = self._students(), tuning(self.matrix, self.out)
        exported = [unit for unit in self._exports() if unit.ready]
        reasons = {unit.name: _failure(unit) for unit in (*self.runs(), *exported)}
        timed = [unit for unit in exported if unit.finished and reasons[unit.name] is None]
        results = collect(
            self.matrix,
            teachers(self.matrix, self.out),
            runs,
            trials,
            {name: reason for name, reason in reasons.items() if reason is not None},
            exports=timed,
            data=self.data,
            progress=progress,
        )
        write_json(self.out / "results.json", results.as_json())
        write_text(self.out / "table.md", markdown(results))
        if results.pairs:
            draw(results, self.out)
        return results

    def _train(self, units: Sequence[Unit], device: str, progress: Progress) -> None:
        self.train_units(units, device=device, data=self.data, progress=progress)

    def _require_same(self) -> None:
        """Raises MldrError when a finished run is of another recipe.

        Asked again after the tuning: with more choices it may settle on others than the finished
        students were trained with.
        """
        for unit in self.runs():
            if unit.finished:
                unit.require_same()

    def _require_same_pictures(self, progress: Progress) -> None:
        """Raises MldrError when runs are finished, on other pictures than the rest would see."""
        finished = [unit for unit in self.runs() if unit.finished]
        if len(finished) == len(self.runs()):
            return
        for config in dict.fromkeys(unit.recipe.data for unit in finished):
            dataset = self.data.load(config, progress=progress)
            require_same_pictures([u for u in finished if u.recipe.data == config], dataset)

    def _students(self) -> list[StudentUnit]:
        trials = tuning(self.matrix, self.out)
        if not all(trial.finished for trial in trials):
            return students(self.matrix, self.out, {})
        return students(self.matrix, self.out, best_settings(trials))

    def _exports(self) -> list[StudentUnit]:
        return exports(self.matrix, self._students())


def _failure(unit: Unit) -> str | None:
    """Why ``unit`` did not work out, if it did not: it failed, or its bundle may not be shipped."""
    if unit.finished and not unit.outcome.get("passed", True):
        bundle = unit.folder / "bundle"
        return f"its bundle failed a parity gate: `mldr-deploy check {bundle}` says which"
    return failure(unit)


def report_finished(file: Path, out: Path | None, progress: Progress) -> Results:
    """The report of what is finished in ``out``. Raises MldrError where there is no such folder."""
    comparison = MethodComparison.open(file, out)
    if not comparison.out.is_dir():
        raise MldrError(
            f"{comparison.out} does not exist, so nothing of {file} is finished: give the --out "
            "that it was trained in, or leave --report-only away to train it"
        )
    return comparison.report(progress)


def compare(
    file: Path,
    out: Path | None,
    *,
    jobs: int,
    device: str,
    progress: Progress,
    engine: Work | None = None,
) -> tuple[Results, MldrError | None]:
    """Carry out the comparison in ``file`` and report; also what failed, if anything did.

    ``engine`` carries out the trainings; None: this machine, ``jobs`` at a time.
    """
    comparison, failed = MethodComparison.open(file, out), None
    train_units = engine or LocalRuns(jobs, comparison.out / "logs")
    try:
        replace(comparison, train_units=train_units).train(device, progress)
    except Failures as error:
        failed = error
    try:
        comparison.export(device, progress)
    except Failures as error:
        failed = failed or error
    results = comparison.report(progress)
    for name, reason in results.failed.items():
        failed = failed or Failures(f"{name}: {reason}")
    return results, failed
