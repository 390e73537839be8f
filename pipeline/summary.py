"""The closing table: teacher, student and artifacts beside each other, measured on test."""

from __future__ import annotations

import contextlib
import io
import json
import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from ..bundle.atomic import sha256, write_json
from ..bundle.chance import tells_top5
from ..bundle.data_report import data_report_of
from ..bundle.manifest import FILE as MANIFEST
from ..bundle.preprocess import Floats, preprocess
from ..bundle.processor import cpu_quota, processor
from ..bundle.reader import Bundle
from ..bundle.shipping import recommended
from ..bundle.timing import in_turns
from ..bundle.trained import WEIGHTS, read_trained
from ..data.loader import EvalBatches
from ..distill.evaluate import evaluate
from ..distill.execution import Execution
from ..distill.methods.method_registry import needs_teacher
from ..distill.phase import identity_of
from ..distill.task import FrozenTeacher
from ..distill.trained_folder import weights_file
from ..export.kinds import KINDS
from ..export.measure_latency import milliseconds_per_image
from ..export.torch_reference import torch_reference
from ..export.trained_student import bundled_model
from ..runtimes.runtime import Predictor
from .phases import Pipeline
from .workspace import Workspace

FILE = "summary.json"
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
    warning: str  # that the student is no better than chance, and what to try; empty where it is
    advice: str  # which artifact to ship here; empty where there is no choice
    measured: str  # hash of what was measured, and where; the same again need not be

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        text = io.StringIO()
        console = Console(file=text, width=160, highlight=False)
        console.print(self._table())
        spent = ", ".join(f"{name} {_duration(value)}" for name, value in self.seconds.items())
        console.print(f"time    {spent}; {_duration(sum(self.seconds.values()))} in all")
        if self.steps:
            console.print(f"steps   {'; '.join(self.steps)}")
        console.print(f"on      {self.machine}; accuracy on {self.images} test images")
        if self.warning:
            console.print(f"warning {self.warning}")
        for line in self.quality:
            console.print(f"quality {line}", markup=False, soft_wrap=True)
        for line in self.data:
            console.print(f"data    {line}", markup=False, soft_wrap=True)
        if self.advice:
            console.print(f"advice  {self.advice}")
        for name, place in self.places.items():
            console.print(f"{name:7} {place}")
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        top5 = tells_top5(self.classes)
        for heading in (
            "top-1 %",
            *(["top-5 %"] if top5 else []),
            "agree %",
            "params M",
            "file MB",
            "ms/image b1",
            f"ms/image b{self.max_batch}",
        ):
            table.add_column(heading, justify="right")
        table.add_column("parity")
        for row in self.rows:
            table.add_row(
                f"{row.name}, {row.runtime}",
                f"{row.top1:.2f}",
                *([f"{row.top5:.2f}"] if top5 else []),
                "" if row.agreement is None else f"{row.agreement:.2f}",
                f"{row.parameters / 1e6:.2f}",
                "" if row.file_bytes is None else f"{row.file_bytes / 1e6:.2f}",
                "" if row.ms_single is None else f"{row.ms_single:.2f}",
                "" if row.ms_batch is None else f"{row.ms_batch:.3f}",
                row.status,
            )
        return table


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
                numbers = ", then ".join(f"{count}" for count in counts)
                word = "thread" if counts[-1] == 1 else "threads"
                yield f"{phase} in {execution.precision} with {numbers} {word}"


def _rows(pipeline: Pipeline, bundle: Bundle) -> tuple[SummaryRow, ...]:
    teacher = [_teacher_row(pipeline, bundle)] if needs_teacher(pipeline.recipe.method) else []
    return (*teacher, _student_row(bundle), *_artifact_rows(bundle))


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


def _teacher_row(pipeline: Pipeline, bundle: Bundle) -> SummaryRow:
    """The teacher on test, in fp32, under its own normalisation."""
    assert pipeline.recipe.teacher is not None
    folder = pipeline.teacher()
    teacher: FrozenTeacher = pipeline.load_teacher(folder)
    test, device = pipeline.dataset.test, pipeline.accelerator.device
    workers = pipeline.recipe.data.workers
    batches = EvalBatches(test, teacher.preprocessing, _EVAL_BATCH, device, threads=workers)
    pipeline.progress.start("testing the teacher", len(test))
    result = evaluate(teacher.model.to(device), batches, progress=pipeline.progress)
    pipeline.progress.finish()
    inputs = preprocess(list(bundle.golden.pixels), teacher.preprocessing)
    single, batch = _speed(torch_reference(teacher.model.cpu()), inputs, bundle.manifest.max_batch)
    return SummaryRow(
        name=f"teacher {pipeline.recipe.teacher.name}",
        runtime="PyTorch",
        top1=result.top1,
        top5=result.top5,
        agreement=None,
        parameters=sum(p.numel() for p in teacher.model.parameters()),
        file_bytes=(folder / WEIGHTS).stat().st_size if folder else None,
        ms_single=single,
        ms_batch=batch,
        status="",
    )


def _student_row(bundle: Bundle) -> SummaryRow:
    manifest = bundle.manifest
    accuracy = manifest.artifacts[0].parity.reference
    runner = torch_reference(bundled_model(bundle))
    single, batch = _speed(runner, bundle.golden.inputs, manifest.max_batch)
    return SummaryRow(
        name=f"student {manifest.model['name']}",
        runtime="PyTorch",
        top1=accuracy.top1,
        top5=accuracy.top5,
        agreement=100.0,
        parameters=manifest.parameters,
        file_bytes=manifest.weights.bytes,
        ms_single=single,
        ms_batch=batch,
        status="no better than chance" if manifest.at_chance else "reference",
    )


def _artifact_rows(bundle: Bundle) -> list[SummaryRow]:
    """The artifacts, those that run on this machine timed in turns."""
    manifest, images = bundle.manifest, bundle.golden.inputs
    kinds = {a.file: KINDS[a.format, a.precision] for a in manifest.artifacts}
    timed = {a.file: run for a in manifest.artifacts if (run := kinds[a.file].timed) is not None}
    with contextlib.ExitStack() as stack:
        ready = [
            stack.enter_context(timed[a.file](bundle.path, a, 0))
            for a in manifest.artifacts
            if a.file in timed
        ]
        sizes = (1, manifest.max_batch)
        single, batch = (
            dict(zip(timed, map(statistics.median, in_turns(ready, images, size)), strict=True))
            for size in sizes
        )
    return [
        SummaryRow(
            name=artifact.file,
            runtime=kinds[artifact.file].runtime,
            top1=artifact.parity.artifact.top1,
            top5=artifact.parity.artifact.top5,
            agreement=artifact.parity.agreement,
            parameters=manifest.parameters,
            file_bytes=artifact.bytes,
            ms_single=single.get(artifact.file),
            ms_batch=batch.get(artifact.file),
            status="at chance" if manifest.at_chance else artifact.status,
        )
        for artifact in manifest.artifacts
    ]


def _speed(
    runner: AbstractContextManager[Predictor], inputs: Floats, max_batch: int
) -> tuple[float, float]:
    """Milliseconds an image, at batch 1 and at the largest, on the bundle's golden images."""
    with runner as ready:
        single = milliseconds_per_image(ready, inputs, 1)
        return single, milliseconds_per_image(ready, inputs, max_batch)


def machine() -> str:
    """Processor, threads, a limit on its time and PyTorch of this machine."""
    import torch

    quota = cpu_quota()
    limit = "" if quota is None else f" (CPU quota {quota:g})"
    return f"{processor()}, {torch.get_num_threads()} threads{limit}, PyTorch {torch.__version__}"


def _duration(total: float) -> str:
    minutes, seconds = divmod(round(total), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
