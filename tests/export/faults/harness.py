"""A fault is put where it would arise, then everything runs as for a user, and somebody notices."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import onnx

from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.preprocess import Floats, Preprocessing
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.trained import TrainedModel, save_trained
from mldr_deploy.errors import MldrError
from mldr_deploy.export import bisect, kinds
from mldr_deploy.export.artifact_kind import ExportContext, Written
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.calibration import Calibration
from mldr_deploy.export.recheck import check_bundle

from .injure import Injury
from .subjects import Subject, Tensors


@dataclass(frozen=True)
class Verdict:
    """What the user is told: ``alarm`` is empty where nothing was noticed."""

    alarm: str

    def __bool__(self) -> bool:
        return bool(self.alarm)


@dataclass(frozen=True)
class Case:
    """A healthy run and its bundle, and an empty folder to work in."""

    subject: Subject
    healthy: Bundle
    scratch: Path


Inject = Callable[[Case], Verdict]


def in_training(change: Callable[[Subject], tuple[TrainedModel, Tensors]]) -> Inject:
    """Training leaves another record or other tensors; then export."""

    def inject(case: Case) -> Verdict:
        record, tensors = change(case.subject)
        save_trained(case.scratch / "trained", record, tensors)
        return exported(case, case.scratch / "trained")

    return inject


def in_trained_folder(change: Callable[[Path, Subject], None]) -> Inject:
    """Somebody changes what training left; then export."""

    def inject(case: Case) -> Verdict:
        folder = Path(shutil.copytree(case.subject.folder, case.scratch / "trained"))
        change(folder, case.subject)
        return exported(case, folder)

    return inject


def in_artifact(*injuries: Injury, precision: str = "fp32") -> Inject:
    """The exporter writes another graph than it should."""

    def change(path: Path) -> None:
        proto = onnx.load(path)
        for injure in injuries:
            injure(proto)
        onnx.save(proto, path)

    return in_file(change, precision=precision)


def in_file(change: Callable[[Path], None], precision: str = "fp32") -> Inject:
    """The exporter's file for ``precision`` is changed before anything looks at it."""

    def inject(case: Case) -> Verdict:
        with written(case.healthy, {precision: change}):
            return exported(case, case.subject.folder)

    return inject


def in_calibration(images: Callable[[Preprocessing, int], Floats], precision: str) -> Inject:
    """The scales of ``precision`` are measured on other ``images`` than the manifest says."""

    def measured(calibration: Calibration, size: int) -> Iterator[Floats]:
        for start in range(0, len(calibration), size):
            yield images(calibration.preprocessing, min(size, len(calibration) - start))

    def inject(case: Case) -> Verdict:
        key = ("onnx", precision)
        kind = kinds.KINDS[key]

        def write(context: ExportContext) -> Written:
            with mock.patch.object(Calibration, "batches", measured):
                return kind.write(context)

        instead = {key: dataclasses.replace(kind, write=write)}
        with written(case.healthy, {}), mock.patch.dict(kinds.KINDS, instead):
            return exported(case, case.subject.folder)

    return inject


def in_bundle(change: Callable[[Path, Subject], None], *, data: bool = True) -> Inject:
    """A finished bundle is changed, hashes made right again; then check, with or without data."""

    def inject(case: Case) -> Verdict:
        folder = Path(shutil.copytree(case.healthy.path, case.scratch / "bundle"))
        change(folder, case.subject)
        return checked(folder, case.subject if data else None)

    return inject


def exported(case: Case, trained: Path) -> Verdict:
    """What `mldr-deploy export` would say."""
    subject = case.subject
    try:
        bundle = build_bundle(
            trained, case.scratch / "exported", subject.recipe.export, dataset=subject.dataset
        )
    except MldrError as error:
        return Verdict(str(error))
    said = []
    for artifact in bundle.manifest.artifacts:
        said += artifact.parity.failures
        said += [] if artifact.fault is None else [str(artifact.fault)]
    return Verdict("; ".join(said))


def checked(folder: Path, subject: Subject | None) -> Verdict:
    """What `mldr-deploy check` would say."""
    try:
        result = check_bundle(folder, dataset=None if subject is None else subject.dataset)
    except MldrError as error:
        return Verdict(str(error))
    said = [f"{f.subject}: {f.detail}" for f in result.findings if f.holds is False]
    return Verdict("; ".join([*said, *map(str, result.faults.values())]))


@contextmanager
def written(healthy: Bundle, changes: dict[str, Callable[[Path], None]]) -> Iterator[None]:
    """Exporters that hand out the healthy bundle's files, changed, instead of exporting again.

    PyTorch's trace is kept too: it is the student's, which no fault of an artifact touches.
    """

    def writer(precision: str) -> Callable[[ExportContext], Written]:
        artifact = healthy.artifact(precision)

        def write(context: ExportContext) -> Written:
            path = context.folder / artifact.file
            shutil.copyfile(healthy.file(artifact), path)
            changes.get(precision, lambda _: None)(path)
            return Written(
                artifact.file,
                opset=artifact.opset,
                islands=tuple(artifact.islands),
                quantization=artifact.quantization,
            )

        return write

    replaced = {
        key: dataclasses.replace(kind, write=writer(key[1]))
        for key, kind in kinds.KINDS.items()
        if any((a.format, a.precision) == key for a in healthy.manifest.artifacts)
    }
    with mock.patch.dict(kinds.KINDS, replaced), kept_trace(str(healthy.path)):
        yield


_traces: dict[str, Any] = {}


@contextmanager
def kept_trace(key: str) -> Iterator[None]:
    """Trace the student of ``key`` once; it takes seconds."""
    trace = bisect.trace

    def once(*arguments: Any) -> Any:
        if key not in _traces:
            _traces[key] = trace(*arguments)
        return _traces[key]

    with mock.patch.object(bisect, "trace", once):
        yield


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change manifest.json."""
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    write_sealed(folder / "manifest.json", content)


def rehash(folder: Path) -> None:
    """Make every hash of the manifest right again: only proofs can notice now."""

    def renew(content: dict[str, Any]) -> None:
        for entry in (*content["artifacts"], content["weights"], content["golden"]):
            path = folder / entry["file"]
            entry.update(bytes=path.stat().st_size, sha256=sha256(path))

    edit(folder, renew)
