"""The runs of a comparison, each finished once its file is there, so that any process may take one.

OUT/teachers/NAME/              a teacher's run and its result.json
OUT/runs/PAIR/METHOD/seed-N/    a student's run, its result.json and test.safetensors; of one
                                student a pair also bundle/ and latency.json
OUT/tuning/PAIR/METHOD/N/       a tuning run and its result.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.atomic import write_json
from ..bundle.progress import Progress
from ..bundle.tensors import read_tensors, write_tensors
from ..bundle.trained import load_trained
from ..data.config import DataConfig
from ..data.dataset import Dataset, load_dataset
from ..data.loader import EvalBatches
from ..distill.evaluate import best_classes
from ..distill.methods.registry import needs_teacher
from ..distill.run import TRAINED
from ..errors import MldrError
from ..export.latency import milliseconds_per_image
from ..export.student import load_student
from ..pipeline.recipe import Recipe
from ..pipeline.stages import Pipeline, pipeline
from ..pipeline.summary import machine
from ..pipeline.workspace import Workspace
from ..runtimes.runner import OnnxRunner
from .matrix import Matrix

RESULT = "result.json"
TEST = "test.safetensors"
_EVAL_BATCH = 250
_TOP = 5


@dataclass(frozen=True)
class Unit:
    """One run: where it lies and what must be finished before it."""

    name: str
    folder: Path
    recipe: Recipe
    needs: tuple[Unit, ...] = ()
    shared: tuple[tuple[str, Path], ...] = ()

    @property
    def finished(self) -> bool:
        """Whether its last file is there; files appear whole."""
        return self.result_file.is_file()

    @property
    def ready(self) -> bool:
        """Whether everything it needs is finished."""
        return all(unit.finished for unit in self.needs)

    def carry_out(self, device: str, progress: Progress) -> None:
        """Do what is missing of it. Raises Busy when another process is at it."""
        with pipeline(
            self.recipe,
            self.folder,
            device=device,
            restart=False,
            progress=progress,
            shared=dict(self.shared),
        ) as job:
            if not self.finished:
                job.dataset = _dataset(job)
                self._work(job)

    def require_same(self) -> None:
        """Raises MldrError when the folder holds a run of another recipe."""
        if difference := Workspace(self.folder, self.recipe).difference():
            raise MldrError(f"{difference}: choose another --out, or delete that folder")

    @property
    def result_file(self) -> Path:
        """The last file of the run."""
        return self.folder / RESULT

    def _work(self, job: Pipeline) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class TeacherRun(Unit):
    """A teacher's training."""

    @property
    def trained(self) -> Path:
        """The finished teacher."""
        return self.folder / "teacher" / TRAINED

    def _work(self, job: Pipeline) -> None:
        folder = job.teacher()
        teacher = job.worthy_teacher(folder)
        best = _best_classes(job, teacher.model, teacher.preprocessing)
        scores = _scores(best, job.dataset.test.labels)
        parameters = sum(p.numel() for p in teacher.model.parameters())
        write_json(self.result_file, {**scores, "parameters": parameters, "model": _model(job)})


@dataclass(frozen=True)
class StudentRun(Unit):
    """A student's training, and how it does on test."""

    pair: str = ""
    method: str = ""
    seed: int = 0

    @cached_property
    def result(self) -> dict[str, Any]:
        """What result.json says."""
        found: dict[str, Any] = json.loads(self.result_file.read_text(encoding="utf-8"))
        return found

    def _work(self, job: Pipeline) -> None:
        trained = job.student()
        student = load_student(trained)
        record = student.record
        best = _best_classes(job, student.model, record.preprocessing)
        write_tensors(self.folder / TEST, {"best_classes": best.astype(np.int32)})
        write_json(
            self.result_file,
            {
                **_scores(best, job.dataset.test.labels),
                "parameters": record.parameters,
                "family": record.family,
                "model": record.model,
                **record.metrics,
            },
        )


@dataclass(frozen=True)
class TuningRun(StudentRun):
    """A student's training that is judged on the validation split alone."""

    choice: int = 0

    def _work(self, job: Pipeline) -> None:
        record, _ = load_trained(job.student())
        write_json(self.result_file, record.metrics)


@dataclass(frozen=True)
class ExportRun(Unit):
    """A finished student's bundle, and what it takes to run."""

    pair: str = ""

    @property
    def result_file(self) -> Path:
        """The last file of the run."""
        return self.folder / "latency.json"

    @property
    def milliseconds(self) -> float | None:
        """An image at batch 1 in ONNX Runtime on the CPU; None before it is known."""
        if not self.finished:
            return None
        found: float = json.loads(self.result_file.read_text(encoding="utf-8"))[
            "milliseconds_batch_1"
        ]
        return found

    def _work(self, job: Pipeline) -> None:
        bundle = job.bundle()
        with OnnxRunner(bundle.file(bundle.manifest.artifacts[0]), 0) as runner:
            single = milliseconds_per_image(runner, bundle.golden.inputs, 1)
        write_json(
            self.result_file,
            {
                "milliseconds_batch_1": round(single, 4),
                "passed": bool(bundle),
                "machine": machine(),
            },
        )


def teachers(matrix: Matrix, out: Path) -> dict[str, TeacherRun]:
    """The teachers that some pair has, by name; those with finished weights need no training."""
    used = {table["teacher"] for table in matrix.pairs.values() if "teacher" in table}
    return {
        name: TeacherRun(name, out / "teachers" / name, matrix.teaching(name))
        for name in matrix.teachers
        if name in used
    }


Settings = dict[str, dict[str, int]]  # pair -> method -> the number of the choice


def tuning(matrix: Matrix, out: Path) -> list[TuningRun]:
    """The runs that settings are chosen by."""
    plan = matrix.tuning
    if plan is None:
        return []
    by_name, runs = teachers(matrix, out), []
    for pair in dict.fromkeys(matrix.tuned_on(name) for name in matrix.pairs):
        for method, choices in plan.choices.items():
            for number, choice in enumerate(choices):
                recipe = matrix.section(pair, method, plan.seed, plan.recipe, choice)
                runs.append(
                    TuningRun(
                        f"tuning {pair} {method} {number}",
                        out / "tuning" / pair / method / str(number),
                        recipe,
                        *_taught(matrix, pair, recipe, by_name),
                        pair=pair,
                        method=method,
                        seed=plan.seed,
                        choice=number,
                    )
                )
    return runs


def chosen(runs: list[TuningRun]) -> Settings:
    """By pair and method the choice with the best validation accuracy; the first of equals."""
    best: dict[tuple[str, str], TuningRun] = {}
    for run in runs:
        there = best.get((run.pair, run.method))
        if there is None or run.result["val_top1"] > there.result["val_top1"]:
            best[run.pair, run.method] = run
    settings: Settings = {}
    for (pair, method), run in best.items():
        settings.setdefault(pair, {})[method] = run.choice
    return settings


def students(matrix: Matrix, out: Path, settings: Settings) -> list[StudentRun]:
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
                runs.append(
                    StudentRun(
                        f"{pair}, {method}, seed {seed}",
                        out / "runs" / pair / method / f"seed-{seed}",
                        recipe,
                        *_taught(matrix, pair, recipe, by_name),
                        pair=pair,
                        method=method,
                        seed=seed,
                    )
                )
    return runs


def exports(matrix: Matrix, runs: list[StudentRun]) -> list[ExportRun]:
    """One student of each pair: of the focus, with the first seed."""
    if not matrix.export:
        return []
    return [
        ExportRun(f"export of {run.name}", run.folder, run.recipe, (run,), run.shared, run.pair)
        for run in runs
        if run.method == matrix.focus and run.seed == matrix.seeds[0]
    ]


def test_classes(run: StudentRun) -> NDArray[np.int32]:
    """The five best classes of every test image, best first, [N, 5]."""
    found: NDArray[np.int32] = read_tensors(run.folder / TEST)["best_classes"]
    return found


def read_ahead(data: DataConfig) -> None:
    """Read ``data`` now, so that processes forked from this one share the pictures."""
    _newest[data] = load_dataset(data)


def _taught(
    matrix: Matrix, pair: str, recipe: Recipe, by_name: dict[str, TeacherRun]
) -> tuple[tuple[Unit, ...], tuple[tuple[str, Path], ...]]:
    """What a student's run needs and shares: its teacher's run, where the method asks one."""
    name = matrix.pairs[pair].get("teacher")
    if name is None or not needs_teacher(recipe.method):
        return (), ()
    teacher = by_name[name]
    shared = tuple((stage, teacher.folder / stage) for stage in ("teacher", "logits"))
    return (teacher,), shared


_newest: dict[DataConfig, Dataset] = {}  # one at most


def _dataset(job: Pipeline) -> Dataset:
    """The job's data, read once for all runs of this process that follow each other with it."""
    data = job.recipe.data
    if data not in _newest:
        read = job.dataset
        _newest.clear()
        _newest[data] = read
    return _newest[data]


def _best_classes(job: Pipeline, model: Any, preprocessing: Any) -> NDArray[np.int64]:
    test, device = job.dataset.test, job.accelerator.device
    threads = job.recipe.data.workers
    batches = EvalBatches(test, preprocessing, _EVAL_BATCH, device, threads=threads)
    job.progress.start("testing", len(test))
    best = best_classes(model.to(device), batches, k=_TOP, progress=job.progress)
    job.progress.finish()
    found: NDArray[np.int64] = best.numpy()
    return found


def _scores(best: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, float]:
    hits = best == labels[:, None]
    return {
        "test_top1": round(100 * float(hits[:, 0].mean()), 4),
        "test_top5": round(100 * float(hits.any(axis=1).mean()), 4),
        "test_images": len(labels),
    }


def _model(job: Pipeline) -> dict[str, Any]:
    assert job.recipe.teacher is not None
    dumped: dict[str, Any] = job.recipe.teacher.model.model_dump(mode="json")
    return dumped
