"""Copying artifacts that an earlier bundle of the same student has, so that they stay in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..bundle.manifest import FILE, Artifact, describe
from ..bundle.progress import Progress
from ..bundle.reader import Bundle, open_bundle
from ..bundle.trained import WEIGHTS
from ..errors import MldrError
from .export_config import ExportConfig
from .kinds import FIRST, KINDS, Key, plan
from .trained_student import Student


def remaining(config: ExportConfig, copied: dict[Key, Artifact]) -> list[Key]:
    """The artifacts to write: those that ``config`` names, and sources of theirs not ``copied``."""
    return [key for key in plan(config) if key in config.pairs or key not in copied]


def keep(
    out: Path, folder: Path, student: Student, config: ExportConfig, progress: Progress
) -> dict[Key, Artifact]:
    """Copy from the bundle ``out`` to ``folder`` the artifacts that stay as they are.

    An artifact stays if it passed its gate, is no engine, and ``config`` does not name it. ``out``
    must be an undamaged bundle of the same weights, preprocessing, data, operator set and largest
    batch; otherwise nothing is copied, and a note says why. ``folder`` must hold the weights.
    """
    if not (out / FILE).is_file():
        return {}
    try:
        bundle = open_bundle(out, allow_failed=True)
    except MldrError as error:
        progress.note(f"{out} is replaced as a whole: {error}")
        return {}
    difference = _difference(bundle, folder, student, config)
    if difference is not None:
        progress.note(f"{out} is replaced as a whole: it was exported with {difference}")
        return {}
    copied = {
        key: artifact
        for artifact in bundle.manifest.artifacts
        if (key := (artifact.format, artifact.precision)) in KINDS
        and key not in config.pairs
        and artifact.status == "passed"
        and artifact.engine is None  # belongs to one machine and one ONNX file: built again
    }
    for artifact in copied.values():
        for entry in (artifact, *artifact.beside):
            (folder / entry.file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(out / entry.file, folder / entry.file)
    return copied


def _difference(bundle: Bundle, folder: Path, student: Student, config: ExportConfig) -> str | None:
    """The first way in which the bundle differs from this export, or None."""
    manifest, record = bundle.manifest, student.record
    first = next((a for a in manifest.artifacts if (a.format, a.precision) == FIRST), None)
    differences = {
        "other weights": manifest.weights.sha256 != describe(folder, WEIGHTS).sha256,
        "another preprocessing": manifest.preprocessing != record.preprocessing,
        "other data": manifest.data_fingerprint != record.data_fingerprint,
        "other classes": manifest.labels != record.classes,
        "another largest batch": manifest.max_batch != config.max_batch,
        "another operator set": first is None or first.opset != config.opset,
    }
    return next((name for name, differs in differences.items() if differs), None)
