"""What an earlier bundle of the same student already holds, so that an export only adds to it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..bundle.manifest import FILE, Artifact, describe
from ..bundle.progress import Progress
from ..bundle.reader import Bundle, open_bundle
from ..bundle.trained import WEIGHTS
from ..errors import MldrError
from .config import ExportConfig
from .kinds import FIRST, KINDS, Key, plan
from .student import Student


def remaining(config: ExportConfig, held: dict[Key, Artifact]) -> list[Key]:
    """What is to be made: all that is asked for by name, and what it is made from unless held."""
    named = {(target, precision) for target in config.targets for precision in config.precisions}
    return [key for key in plan(config) if key in named or key not in held]


def keep(
    out: Path, folder: Path, student: Student, config: ExportConfig, progress: Progress
) -> dict[Key, Artifact]:
    """Copy from the bundle ``out`` to ``folder`` the artifacts that stay as they are.

    They stay when ``out`` is an undamaged bundle of the same weights, preprocessing, data, operator
    set and largest batch; otherwise the whole bundle is replaced, and a note says why. What is
    asked for by name is made anew, and so is what failed; engines are left out. ``folder`` must
    hold the weights.
    """
    if not (out / FILE).is_file():
        return {}
    try:
        bundle = open_bundle(out, allow_failed=True)
    except MldrError as error:
        progress.note(f"{out} is replaced as a whole: {error}")
        return {}
    other = _difference(bundle, folder, student, config)
    if other is not None:
        progress.note(f"{out} is replaced as a whole: it was exported with {other}")
        return {}
    named = {(target, precision) for target in config.targets for precision in config.precisions}
    held = {
        key: artifact
        for artifact in bundle.manifest.artifacts
        if (key := (artifact.format, artifact.precision)) in KINDS
        and key not in named
        and artifact.status == "passed"
        and artifact.engine is None  # belongs to one machine and one ONNX file: built again
    }
    for artifact in held.values():
        for entry in (artifact, *artifact.beside):
            (folder / entry.file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(out / entry.file, folder / entry.file)
    return held


def _difference(bundle: Bundle, folder: Path, student: Student, config: ExportConfig) -> str | None:
    """In what the bundle is not of this export; None: in nothing that matters."""
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
