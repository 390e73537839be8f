"""From a finished training run to a proven bundle."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..bundle.atomic import Unwritable, atomic_folder, write_text
from ..bundle.card import FILE as CARD
from ..bundle.card import model_card
from ..bundle.chance import Chance
from ..bundle.golden import FILE as GOLDEN
from ..bundle.golden import Golden, make_golden, save_golden
from ..bundle.hub_card import FILE as HUB_CARD
from ..bundle.hub_card import hub_card
from ..bundle.infer_script import FILE as SCRIPT
from ..bundle.infer_script import PHONE_FILE, infer_script, phone_script
from ..bundle.lesson import lesson_of
from ..bundle.manifest import FILE as MANIFEST
from ..bundle.manifest import Artifact, FileEntry, Manifest, TensorSpec, describe, write_manifest
from ..bundle.preprocess import Floats
from ..bundle.processor import cores, processor
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle, open_bundle
from ..bundle.tensors import write_tensors
from ..bundle.trained import WEIGHTS
from ..errors import MldrError, Unavailable
from ..runtimes.runtime import Runtime
from .artifact_kind import ExportContext
from .calibration import Calibration
from .export_config import ExportConfig
from .keep import keep, remaining
from .kinds import KINDS, Key
from .labels_alone import labels_alone
from .measure_latency import latencies
from .onnx_export import INPUT, OUTPUT
from .prove import on_split, proven
from .quality_record import QualityRecord
from .tensorrt.rtx_engines import rtx_engines
from .timm_folder import timm_fields, write_timm_folder
from .torch_reference import torch_reference
from .trained_student import Student, load_student
from .training_evidence import require_same_data, require_same_function

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..data.split import Split

Entry = TypeVar("Entry", bound=FileEntry)
_LATENCY_BATCH = 16
_BATCH = 16  # calibration images at a time
_VERSIONS = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")


def build_bundle(
    trained: Path,
    out: Path,
    config: ExportConfig | None = None,
    *,
    dataset: Dataset,
    provenance: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Export the student in ``trained``, prove it on the test split, write the bundle ``out``.

    The bundle is written in one step, whatever the gates say; it is false when an artifact failed
    its gate, and the manifest then says so, with the node that bisect found. What this machine
    cannot make is left out and told in ``manifest.unavailable``. Where ``out`` already is a bundle
    of the same student, artifacts that ``config`` does not name stay as they are (``keep``).

    Raises MldrError when the run does not rebuild, does not export, or was trained on another data
    set, and when ``out`` cannot be written; an earlier bundle there is then untouched.
    """
    config, progress = config or ExportConfig(), progress or Silent()
    student = load_student(trained)
    require_same_data(student, dataset, trained)
    labels = labels_alone(student.record, config)
    lesson = lesson_of(student.record, config.teacher_distance, labels)
    validation = require_same_function(student, dataset, trained, progress, config.threads)
    record = QualityRecord(validation, lesson)
    with atomic_folder(out, replaces=MANIFEST) as folder:
        try:
            context = _context(student, folder, config, dataset, progress)
            _fill(context, record, out, dataset, provenance or {})
        except OSError as error:
            raise Unwritable(out, error) from error
    return open_bundle(out, allow_failed=True)


def _fill(
    context: ExportContext,
    record: QualityRecord,
    out: Path,
    dataset: Dataset,
    provenance: dict[str, Any],
) -> None:
    """Everything that a bundle holds, into the empty folder of ``context``."""
    folder, student, config = context.folder, context.student, context.config
    tensors = {name: value.numpy() for name, value in student.model.state_dict().items()}
    write_tensors(folder / WEIGHTS, tensors)
    golden = _golden(student, dataset, config.golden)
    save_golden(folder / GOLDEN, golden)
    kept = keep(out, folder, student, config, context.progress)
    keys = remaining(config, kept.artifacts)
    written, unavailable = _artifacts(context, keys, dataset.test, record)
    by_key = kept.artifacts | written
    artifacts = [by_key[key] for key in KINDS if key in by_key]
    artifacts = _beside(kept.engines, _timed(context, artifacts, golden.inputs))
    built, not_built = rtx_engines(context, artifacts)
    built = _beside(kept.built, built)
    chance = _chance(artifacts, dataset.test)
    manifest = _manifest(context, artifacts, [*unavailable, *not_built], chance, provenance)
    manifest = manifest.model_copy(
        update={"built": built, **_quality(context, record, dataset.test, manifest.labels)}
    )
    refusal = write_timm_folder(folder, student, golden.inputs)
    manifest = _with_texts(folder, manifest.model_copy(update=timm_fields(folder, refusal)))
    if (lost := kept.lost(manifest)) is not None:
        context.progress.note(lost)
    write_manifest(folder, manifest)


def _beside(kept: list[Entry], written: list[Entry]) -> list[Entry]:
    """``written``, and after them what was ``kept`` and not written again under its name."""
    files = {entry.file for entry in written}
    return [*written, *(entry for entry in kept if entry.file not in files)]


def _with_texts(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest with what is written of it for people and for other programs."""
    write_text(folder / CARD, model_card(manifest))
    write_text(folder / SCRIPT, infer_script(manifest))
    texts: dict[str, Any] = {"card": describe(folder, CARD), "script": describe(folder, SCRIPT)}
    if any(artifact.caveat for artifact in manifest.artifacts):
        write_text(folder / PHONE_FILE, phone_script())
        texts["phone_script"] = describe(folder, PHONE_FILE)
    if manifest.timm_files:
        write_text(folder / HUB_CARD, hub_card(manifest))
        texts["timm_files"] = [*manifest.timm_files, describe(folder, HUB_CARD)]
    return manifest.model_copy(update=texts)


def _quality(
    context: ExportContext, record: QualityRecord, test: Split, labels: list[str]
) -> dict[str, Any]:
    """What the manifest says of the student's quality, its temperature and its lesson."""
    quality, files = record.written(context, test, labels)
    return {
        "temperature": record.answers.temperature,
        "lesson": record.lesson,
        "quality": quality,
        "quality_files": [describe(context.folder, file) for file in files],
    }


def _timed(context: ExportContext, artifacts: list[Artifact], images: Floats) -> list[Artifact]:
    """The artifacts with their latencies, where there are several that run here."""
    config, runners = context.config, dict[str, Runtime]()
    for artifact in artifacts:
        timed = KINDS[artifact.format, artifact.precision].timed
        if timed is not None:
            runners[artifact.file] = timed(context.folder, artifact, config.threads)
    if len(runners) < 2 or not config.latency_seconds:
        return artifacts
    context.progress.start("timing the artifacts", None)
    measured = latencies(
        runners,
        images,
        min(_LATENCY_BATCH, config.max_batch),
        seconds=config.latency_seconds,
        threads=config.threads,
    )
    context.progress.finish()
    return [a.model_copy(update={"latency": measured.get(a.file)}) for a in artifacts]


def _context(
    student: Student, folder: Path, config: ExportConfig, dataset: Dataset, progress: Progress
) -> ExportContext:
    preprocessing = student.record.preprocessing
    calibration = Calibration(dataset.train, preprocessing, config.calibration)
    return ExportContext(student, folder, config, calibration, dataset.val, progress)


def _artifacts(
    context: ExportContext, keys: list[Key], test: Split, record: QualityRecord
) -> tuple[dict[Key, Artifact], list[str]]:
    """The artifacts ``keys``, and why some of them are not there."""
    artifacts: dict[Key, Artifact] = {}
    missing: dict[tuple[str, str], list[str]] = {}  # precisions by target and reason
    for key in keys:
        try:
            artifacts[key] = _artifact(context, key, test, record)
        except Unavailable as error:
            missing.setdefault((key[0], str(error)), []).append(key[1])
    reasons = [f"{target} {', '.join(p)}: {reason}" for (target, reason), p in missing.items()]
    return artifacts, reasons


def _artifact(context: ExportContext, key: Key, test: Split, record: QualityRecord) -> Artifact:
    """Write one artifact, measure it on the whole test split, and look into a failure."""
    (target, precision), kind, config = key, KINDS[key], context.config
    context.progress.start(f"export {target} {precision}", None)
    written = kind.write(context)
    context.progress.finish()
    grounds = on_split(
        context.student.model,
        test,
        context.preprocessing,
        config,
        ends=_ends(context),
        precision=precision,
        gate=config.gates.of(precision),
        images=context.calibration.batches(_BATCH),
        memory=context.memory,
        progress=context.progress,
        record=record.recorder(),
    )
    return proven(context.folder, key, written, kind, grounds)


def _ends(context: ExportContext) -> tuple[TensorSpec, TensorSpec]:
    """Input and output of every artifact."""
    images: list[int | str] = ["batch", 3, *context.preprocessing.size]
    logits: list[int | str] = ["batch", context.student.record.num_classes]
    return (
        TensorSpec(name=INPUT, dtype="float32", shape=images),
        TensorSpec(name=OUTPUT, dtype="float32", shape=logits),
    )


def _golden(student: Student, dataset: Dataset, count: int) -> Golden:
    """``count`` images spread over the test split, and what the PyTorch student says to them."""
    test, spec = dataset.test, student.record.preprocessing
    if len(test) < 8:
        raise MldrError(f"{dataset.source} has {len(test)} test images, a bundle needs 8 at least")
    index = np.unique(np.linspace(0, len(test) - 1, min(count, len(test))).round().astype(np.int64))
    sources = [np.asarray(test.image(int(i))) for i in index]
    with torch_reference(student.model) as reference:
        return make_golden(
            sources,
            spec,
            reference,
            index=index,
            label=test.labels[index],
            classes=dataset.classes,
        )


def _chance(artifacts: list[Artifact], test: Split) -> Chance:
    """The PyTorch student on the test split, held against naming the largest class."""
    hits = round(artifacts[0].parity.reference.top1 * len(test) / 100)
    return Chance(images=len(test), hits=hits, largest=int(np.bincount(test.labels).max()))


def _manifest(
    context: ExportContext,
    artifacts: list[Artifact],
    unavailable: list[str],
    chance: Chance,
    provenance: dict[str, Any],
) -> Manifest:
    record, folder, config = context.student.record, context.folder, context.config
    ends = _ends(context)
    return Manifest(
        labels=record.classes,
        input=ends[0],
        output=ends[1],
        max_batch=config.max_batch,
        preprocessing=record.preprocessing,
        artifacts=artifacts,
        unavailable=unavailable,
        weights=describe(folder, WEIGHTS),
        golden=describe(folder, GOLDEN),
        model=record.model,
        image_size=record.image_size,
        family=record.family,
        parameters=record.parameters,
        data=record.data,
        data_fingerprint=record.data_fingerprint,
        metrics=record.metrics,
        chance=chance,
        evidence=record.evidence,
        provenance={**provenance, "training": record.provenance, "export": _circumstances(config)},
    )


def _circumstances(config: ExportConfig) -> dict[str, Any]:
    exported_at, available = datetime.datetime.now(datetime.UTC), cores()
    return {
        "time": exported_at.isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": available.usable,
        "cpu_quota": available.quota,
        "versions": {name: metadata.version(name) for name in _VERSIONS},
    }
