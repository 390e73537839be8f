"""The closing table: teacher, student and artifacts beside each other, measured on test."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..bundle.atomic import sha256, write_json
from ..bundle.chance import tells_top5
from ..bundle.data_report import data_report_of
from ..bundle.manifest import FILE as MANIFEST
from ..bundle.preprocess import Floats, preprocess
from ..bundle.processor import cpu_quota, processor
from ..bundle.progress import Progress
from ..bundle.reader import Bundle
from ..bundle.shipping import recommended
from ..bundle.timing import in_turns
from ..bundle.trained import WEIGHTS, read_trained
from ..bundle.wording import counted, figure
from ..data.loader import EvalBatches
from ..distill.evaluate import evaluate
from ..distill.execution import Execution
from ..distill.methods.method_registry import needs_teacher
from ..distill.phase import identity_of
from ..distill.task import FrozenTeacher
from ..distill.trained_folder import weights_file
from ..export.kinds import KINDS
from ..export.torch_reference import torch_reference
from ..export.trained_student import bundled_model
from ..runtimes.runtime import Predictor
from .narrow_table import narrow_table
from .phases import Pipeline
from .terminal_text import wrapped
from .workspace import Workspace

FILE = "summary.json"
TIMED_AS = "table"  # what the times call the testing and timing for it
PYTORCH = "PyTorch"
_EVAL_BATCH = 250


@dataclass(frozen=True)
class SummaryRow:
    """One line of the table."""

    name: str
    runtime: str
    top1: float  # per cent of test
    top5: float
    agreement: float | None  # per cent of test with the PyTorch student's top-1; ties agree
    parameters: int
    file_bytes: int | None
    ms_single: float | None  # milliseconds an image at batch 1, median; None: does not run here
    ms_batch: float | None  # the same at the largest batch
    status: str

    def cells(self, top5: bool) -> list[str]:
        """The row as text; PyTorch's rows tell the size of the model, which the files have too."""
        size = f", {self.parameters / 1e6:.2f}M" if self.runtime == PYTORCH else ""
        figures = (self.file_bytes and self.file_bytes / 1e6, self.ms_single, self.ms_batch)
        return [
            f"{self.name}{size}, {self.runtime}",
            f"{self.top1:.2f}",
            *([f"{self.top5:.2f}"] if top5 else []),
            "" if self.agreement is None else f"{self.agreement:.2f}",
            *("" if value is None else figure(value) for value in figures),
            self.status,
        ]


@dataclass(frozen=True)
class RunSummary:
    """What a run came to. True when every artifact passed its gate; prints itself."""

    rows: tuple[SummaryRow, ...]
    max_batch: int
    images: int  # of the test split
    classes: int
    seconds: dict[str, float]
    steps: tuple[str, ...]  # how each training computed: precision and threads
    places: dict[str, str]
    machine: str
    quality: tuple[str, ...]  # the weakest classes, the most confused, the probabilities
    data: tuple[str, ...]  # what a person must know of the data: left out, cut, leaked
    passed: bool
    lesson: tuple[str, ...]  # what training did not achieve, and what to try
    warning: str  # that the student is no better than chance, and what to try; empty where it is
    advice: str  # which artifact to ship here; empty where there is no choice
    measured: str  # hash of what was measured, and where; the same again need not be

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        spent = ", ".join(f"{name} {_duration(value)}" for name, value in self.seconds.items())
        lines = [
            ("time", f"{spent}; {_duration(sum(self.seconds.values()))} in all"),
            *([("steps", "; ".join(self.steps))] if self.steps else []),
            ("on", f"{self.machine}; accuracy on {counted(self.images, 'test image')}"),
            *([("warning", self.warning)] if self.warning else []),
            *(("lesson", line) for line in self.lesson),
            *(("quality", line) for line in self.quality),
            *(("data", line) for line in self.data),
            *([("advice", self.advice)] if self.advice else []),
        ]
        facts = [wrapped(f"{name:7} {text}", hang=8) for name, text in lines]
        places = [f"{name:7} {path}" for name, path in self.places.items()]
        return "\n".join((self._table(), *facts, *places))

    def _table(self) -> str:
        top5 = tells_top5(self.classes)
        accuracies = ("top-1 %", *(["top-5 %"] if top5 else []), "agree %")
        times = ("ms/img b1", f"ms/img b{self.max_batch}")
        rows = [row.cells(top5) for row in self.rows]
        return narrow_table(("", *accuracies, "file MB", *times, "parity"), rows)


def report(pipeline: Pipeline) -> RunSummary | None:
    """The whole recipe carried out, and its closing table; None in all processes but the first.

    The others have nothing to do once the student is trained.
    """
    if not pipeline.accelerator.is_main_process:
        pipeline.student()
        return None
    return summarise(pipeline, pipeline.bundle())


def summarise(pipeline: Pipeline, bundle: Bundle) -> RunSummary:
    """The table, kept as summary.json; what that has of the same bundle is not measured again."""
    manifest, space = bundle.manifest, pipeline.space
    measured = _measured(pipeline, bundle)
    rows = _stored_rows(space.out / FILE, measured)
    if rows:
        pipeline.progress.note(f"table: already there, {space.out / FILE}")
    else:
        rows = _rows(pipeline, bundle)
    summary = RunSummary(
        rows=rows,
        max_batch=manifest.max_batch,
        images=manifest.artifacts[0].parity.samples,
        classes=len(manifest.labels),
        seconds=space.times(),
        steps=tuple(_steps(space)),
        places={
            "bundle": str(bundle.path),
            "curves": str(space.folder("student") / "curves.png"),
            "run": str(space.out),
        },
        machine=machine(),
        quality=tuple(manifest.quality.lines()) if manifest.quality else (),
        data=tuple(data_report_of(manifest).lines()),
        passed=bool(bundle),
        lesson=tuple(manifest.doubts),
        warning=manifest.warning or "",
        advice=str(recommended(manifest) or ""),
        measured=measured,
    )
    write_json(space.out / FILE, {**asdict(summary), "rows": [asdict(r) for r in rows]})
    return summary


def _steps(space: Workspace) -> Iterator[str]:
    """What was chosen for the trainings of this run, as their records say."""
    for phase in ("teacher", "student"):
        if (finished := space.trained(phase)) is not None:
            provenance = read_trained(finished).provenance
            if "execution" in provenance:  # a younger part of the record
                execution = Execution(**provenance["execution"])
                counts = [*execution.threads.values()] or [provenance["threads"]]
                numbers = ", then ".join(counted(count, "thread") for count in counts)
                yield f"{phase} in {execution.precision} with {numbers}"


def _rows(pipeline: Pipeline, bundle: Bundle) -> tuple[SummaryRow, ...]:
    began = time.perf_counter()
    rows = (*_model_rows(pipeline, bundle), *_artifact_rows(bundle, pipeline.progress))
    pipeline.space.record_time(TIMED_AS, time.perf_counter() - began)
    return rows


def _measured(pipeline: Pipeline, bundle: Bundle) -> str:
    """Changes with the bundle, a teacher whose weights came from elsewhere, and the machine.

    The manifest tells the hashes of the artifacts, the student and a teacher trained here.
    """
    weights = pipeline.recipe.teacher and pipeline.recipe.teacher.weights
    path = weights_file(Path(weights)) if weights else None
    return identity_of(
        {
            "manifest": sha256(bundle.path / MANIFEST),
            "teacher": sha256(path) if path and path.is_file() else weights,
            "machine": machine(),
        }
    )


def _stored_rows(path: Path, measured: str) -> tuple[SummaryRow, ...]:
    """The rows of a summary.json of the same things; none where it is not one."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            SummaryRow(**row) for row in summary["rows"] if summary["measured"] == measured
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _model_rows(pipeline: Pipeline, bundle: Bundle) -> list[SummaryRow]:
    """Teacher, where there is one, and student in PyTorch: timed in turns, by the same rules."""
    models, images = [bundled_model(bundle)], [bundle.golden.inputs]
    rows = [_student_row(bundle)]
    if needs_teacher(pipeline.recipe.method):
        folder = pipeline.teacher()
        teacher = pipeline.load_teacher(folder)
        rows.insert(0, _teacher_row(pipeline, teacher, folder))
        models.insert(0, teacher.model.cpu())
        images.insert(0, preprocess(list(bundle.golden.pixels), teacher.preprocessing))
    with contextlib.ExitStack() as stack:
        ready = [stack.enter_context(torch_reference(model)) for model in models]
        speeds = _speeds(ready, images, bundle.manifest.max_batch, "the models", pipeline.progress)
    return [
        replace(row, ms_single=single, ms_batch=batch)
        for row, (single, batch) in zip(rows, speeds, strict=True)
    ]


def _teacher_row(pipeline: Pipeline, teacher: FrozenTeacher, folder: Path | None) -> SummaryRow:
    """The teacher on test, in fp32, under its own normalisation."""
    assert pipeline.recipe.teacher is not None
    test, device = pipeline.dataset.test, pipeline.accelerator.device
    workers = pipeline.recipe.data.workers
    batches = EvalBatches(test, teacher.preprocessing, _EVAL_BATCH, device, threads=workers)
    pipeline.progress.start("testing the teacher", len(test))
    result = evaluate(teacher.model.to(device), batches, progress=pipeline.progress)
    pipeline.progress.finish()
    return SummaryRow(
        name=f"teacher {pipeline.recipe.teacher.name}",
        runtime=PYTORCH,
        top1=result.top1,
        top5=result.top5,
        agreement=None,
        parameters=sum(p.numel() for p in teacher.model.parameters()),
        file_bytes=(folder / WEIGHTS).stat().st_size if folder else None,
        ms_single=None,
        ms_batch=None,
        status="",
    )


def _student_row(bundle: Bundle) -> SummaryRow:
    manifest = bundle.manifest
    accuracy = manifest.artifacts[0].parity.reference
    return SummaryRow(
        name=f"student {manifest.model['name']}",
        runtime=PYTORCH,
        top1=accuracy.top1,
        top5=accuracy.top5,
        agreement=100.0,
        parameters=manifest.parameters,
        file_bytes=manifest.weights.bytes,
        ms_single=None,
        ms_batch=None,
        status="at chance" if manifest.at_chance else "reference",
    )


def _artifact_rows(bundle: Bundle, progress: Progress) -> list[SummaryRow]:
    """The artifacts, those that run on this machine timed in turns."""
    manifest = bundle.manifest
    kinds = {a.file: KINDS[a.format, a.precision] for a in manifest.artifacts}
    timed = {a.file: run for a in manifest.artifacts if (run := kinds[a.file].timed) is not None}
    with contextlib.ExitStack() as stack:
        ready = [
            stack.enter_context(timed[a.file](bundle.path, a, 0))
            for a in manifest.artifacts
            if a.file in timed
        ]
        images = [bundle.golden.inputs] * len(ready)
        speeds = _speeds(ready, images, manifest.max_batch, "the artifacts", progress)
    by_file = dict(zip(timed, speeds, strict=True))
    return [
        SummaryRow(
            name=artifact.file,
            runtime=kinds[artifact.file].runtime,
            top1=artifact.parity.artifact.top1,
            top5=artifact.parity.artifact.top5,
            agreement=artifact.parity.agreement,
            parameters=manifest.parameters,
            file_bytes=artifact.size,
            ms_single=by_file.get(artifact.file, (None, None))[0],
            ms_batch=by_file.get(artifact.file, (None, None))[1],
            status="at chance" if manifest.at_chance else artifact.parity.verdict,
        )
        for artifact in manifest.artifacts
    ]


def _speeds(
    runners: Sequence[Predictor],
    images: Sequence[Floats],
    max_batch: int,
    subject: str,
    progress: Progress,
) -> list[tuple[float, float]]:
    """Milliseconds an image of each of ``runners``, medians at batch 1 and at the largest."""
    medians = []
    progress.start(f"timing {subject}", 2)
    for size in (1, max_batch):
        medians.append([statistics.median(rounds) for rounds in in_turns(runners, images, size)])
        progress.advance()
    progress.finish()
    return list(zip(*medians, strict=True))


def machine() -> str:
    """Processor, threads, a limit on its time and PyTorch of this machine."""
    import torch

    quota = cpu_quota()
    threads = counted(torch.get_num_threads(), "thread")
    limit = "" if quota is None else f" (CPU quota {quota:g})"
    return f"{processor()}, {threads}{limit}, PyTorch {torch.__version__}"


def _duration(total: float) -> str:
    minutes, seconds = divmod(round(total), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
