"""The runs of a comparison, each finished once its file is there, so that any process may take one.

OUT/teachers/NAME/              a teacher's run and its result.json
OUT/runs/PAIR/METHOD/seed-N/    a student's run, its result.json and test.safetensors; of one
                                student a pair also bundle/ and latency.json
OUT/tuning/PAIR/METHOD/N/       a tuning run and its result.json
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..bundle.progress import Progress
from ..bundle.sealed import write_sealed
from ..data.dataset import Dataset
from ..distill.methods.method_registry import needs_teacher
from ..errors import MldrError
from ..pipeline.phases import Pipeline, pipeline
from ..pipeline.recipe import Recipe
from ..pipeline.workspace import Workspace
from .matrix import Matrix
from .outcomes import (
    PICTURES,
    Outcome,
    export_outcome,
    read_outcome,
    student_outcome,
    teacher_outcome,
    tuning_outcome,
)
from .recent_data import RecentData


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One run: where it lies, what it does, and what must be finished before it."""

    name: str
    folder: Path
    recipe: Recipe
    work: Callable[[Pipeline], Outcome] = field(compare=False)
    file: str = "result.json"  # takes the outcome, and is the last that is written
    needs: Unit | None = None  # the run that must be finished before
    teacher: Unit | None = None  # whose teacher and logits it shares

    @property
    def finished(self) -> bool:
        """Whether its last file is there; files appear whole."""
        return (self.folder / self.file).is_file()

    @property
    def ready(self) -> bool:
        """Whether the run that it needs is finished."""
        return self.needs is None or self.needs.finished

    @property
    def shared(self) -> dict[str, Path]:
        """Folders of a `Workspace` that lie with the teacher's run."""
        if self.teacher is None:
            return {}
        return {name: self.teacher.folder / name for name in ("teacher", "logits")}

    @property
    def outcome(self) -> Outcome:
        """The outcome of the finished work."""
        return read_outcome(self.folder / self.file)

    def carry_out(self, device: str, data: RecentData, progress: Progress) -> None:
        """Carry out what is missing of this run. Raises Busy when another process has it."""
        with pipeline(
            self.recipe,
            self.folder,
            device=device,
            restart=False,
            progress=progress,
            shared=self.shared,
            load=data.load,
        ) as opened:
            if not self.finished:
                if self.needs is not None and self.needs.recipe.data == self.recipe.data:
                    require_same_pictures([self.needs], opened.dataset)
                write_sealed(self.folder / self.file, self.work(opened))

    def require_same(self) -> None:
        """Raises MldrError when the folder holds a run of another recipe."""
        if difference := Workspace(self.folder, self.recipe).difference():
            raise MldrError(f"{difference}: choose another --out, or delete that folder")


def require_same_pictures(units: Iterable[Unit], dataset: Dataset) -> None:
    """Raises MldrError when finished ``units`` were carried out with other pictures than these.

    Outcomes of older releases do not say which; of them the test images are counted.
    """
    current = {PICTURES: dataset.fingerprint, "test_images": len(dataset.test)}
    for unit in units:
        outcome = unit.outcome
        if any(outcome.get(key, value) != value for key, value in current.items()):
            raise MldrError(
                f"{unit.folder} holds a run on other pictures than {dataset.source} as it is now: "
                "choose another --out, or delete that folder"
            )


@dataclass(frozen=True, kw_only=True)
class StudentUnit(Unit):
    """The training of a pair's student, or its export."""

    pair: str
    method: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class TuningUnit(StudentUnit):
    """A student's training that is judged on the validation split alone."""

    choice: int  # the number of the method's settings


def teachers(matrix: Matrix, out: Path) -> dict[str, Unit]:
    """The teachers that some pair has, by name; those with finished weights need no training."""
    used = {table["teacher"] for table in matrix.pairs.values() if "teacher" in table}
    return {
        name: Unit(
            name=name,
            folder=out / "teachers" / name,
            recipe=matrix.teaching(name),
            work=teacher_outcome,
        )
        for name in matrix.teachers
        if name in used
    }


Settings = dict[str, dict[str, int]]  # pair -> method -> the number of the choice


def tuning(matrix: Matrix, out: Path) -> list[TuningUnit]:
    """The runs that settings are chosen by."""
    plan = matrix.tuning
    if plan is None:
        return []
    by_name, runs = teachers(matrix, out), []
    for pair in dict.fromkeys(matrix.tuned_on(name) for name in matrix.pairs):
        for method, choices in plan.choices.items():
            for number, choice in enumerate(choices):
                recipe = matrix.section(pair, method, plan.seed, plan.recipe, choice)
                teacher = _teacher(matrix, pair, recipe, by_name)
                runs.append(
                    TuningUnit(
                        name=f"tuning {pair} {method} {number}",
                        folder=out / "tuning" / pair / method / str(number),
                        recipe=recipe,
                        work=tuning_outcome,
                        needs=teacher,
                        teacher=teacher,
                        pair=pair,
                        method=method,
                        seed=plan.seed,
                        choice=number,
                    )
                )
    return runs


def best_settings(runs: list[TuningUnit]) -> Settings:
    """By pair and method the choice with the best validation accuracy; the first of equals."""
    best: dict[tuple[str, str], TuningUnit] = {}
    for run in runs:
        leader = best.get((run.pair, run.method))
        if leader is None or run.outcome["val_top1"] > leader.outcome["val_top1"]:
            best[run.pair, run.method] = run
    settings: Settings = {}
    for (pair, method), run in best.items():
        settings.setdefault(pair, {})[method] = run.choice
    return settings


def students(matrix: Matrix, out: Path, settings: Settings) -> list[StudentUnit]:
    """Every pair x method x seed: the first seed first, and in it the focus."""
    by_name = teachers(matrix, out)
    choices = matrix.tuning.choices if matrix.tuning else {}
    runs = []
    order = sorted(matrix.methods, key=lambda method: method != matrix.focus)
    for seed in matrix.seeds:
        for method in order:
            for pair in matrix.pairs:
                number = settings.get(matrix.tuned_on(pair), {}).get(method)
                over = [] if number is None else [choices[method][number]]
                recipe = matrix.section(pair, method, seed, *over)
                teacher = _teacher(matrix, pair, recipe, by_name)
                runs.append(
                    StudentUnit(
                        name=f"{pair}, {method}, seed {seed}",
                        folder=out / "runs" / pair / method / f"seed-{seed}",
                        recipe=recipe,
                        work=student_outcome,
                        needs=teacher,
                        teacher=teacher,
                        pair=pair,
                        method=method,
                        seed=seed,
                    )
                )
    return runs


def exports(matrix: Matrix, runs: list[StudentUnit]) -> list[StudentUnit]:
    """One student of each pair: of the focus, with the first seed."""
    if not matrix.export:
        return []
    return [
        replace(
            run,
            name=f"export of {run.name}",
            work=export_outcome,
            file="latency.json",
            needs=run,
        )
        for run in runs
        if run.method == matrix.focus and run.seed == matrix.seeds[0]
    ]


def _teacher(matrix: Matrix, pair: str, recipe: Recipe, by_name: dict[str, Unit]) -> Unit | None:
    """The run of the teacher that the recipe's method asks; None where it asks none."""
    name = matrix.pairs[pair].get("teacher")
    return by_name[name] if name is not None and needs_teacher(recipe.method) else None
