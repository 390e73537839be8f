"""Copying artifacts that an earlier bundle of the same student has, so that they stay in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from ..bundle.manifest import FILE, Artifact, BuiltEngine, FileEntry, Manifest, describe
from ..bundle.progress import Progress
from ..bundle.reader import Bundle, open_bundle
from ..bundle.trained import WEIGHTS
from ..errors import MldrError
from .export_config import ExportConfig
from .kinds import FIRST, KINDS, Key, plan
from .trained_student import Student


@dataclass(frozen=True)
class Kept:
    """What an earlier bundle of the same student left in the new one."""

    earlier: Manifest | None = None
    artifacts: dict[Key, Artifact] = field(default_factory=dict)  # no engines
    engines: list[Artifact] = field(default_factory=list)  # TensorRT's, of any machine
    built: list[BuiltEngine] = field(default_factory=list)  # TensorRT-RTX's

    def lost(self, manifest: Manifest) -> str | None:
        """Files of the earlier bundle that ``manifest`` lacks, and why; None: it lacks none."""
        if self.earlier is None:
            return None
        present = {entry.file for entry in (*manifest.artifacts, *manifest.built)}
        earlier: list[Artifact | BuiltEngine] = [*self.earlier.artifacts, *self.earlier.built]
        files = [
            f"{entry.file} ({_why_lost(entry)})" for entry in earlier if entry.file not in present
        ]
        return f"not carried over: {', '.join(files)}" if files else None


def remaining(config: ExportConfig, copied: dict[Key, Artifact]) -> list[Key]:
    """The artifacts to write: those that ``config`` names, and sources of theirs not ``copied``."""
    return [key for key in plan(config) if key in config.pairs or key not in copied]


def keep(
    out: Path, folder: Path, student: Student, config: ExportConfig, progress: Progress
) -> Kept:
    """Copy from the bundle ``out`` to ``folder`` the artifacts that stay as they are.

    An artifact stays if it passed its gate and ``config`` does not name it; an engine, of whatever
    machine, if the ONNX file that it was built from stays. ``out`` must be an undamaged bundle of
    the same weights, preprocessing, data, operator set and largest batch; otherwise nothing is
    copied, and a note says why. ``folder`` must hold the weights.
    """
    if not (out / FILE).is_file():
        return Kept()
    try:
        bundle = open_bundle(out, allow_failed=True)
    except MldrError as error:
        progress.note(f"{out} is replaced as a whole: {error}")
        return Kept()
    difference = _difference(bundle, folder, student, config)
    if difference is not None:
        progress.note(f"{out} is replaced as a whole: it was exported with {difference}")
        return Kept()
    kept = _chosen(bundle.manifest, config)
    for artifact in (*kept.artifacts.values(), *kept.engines):
        for entry in (artifact, *artifact.beside):
            _copy(entry, out, folder)
    for engine in kept.built:
        _copy(engine, out, folder)
    return kept


def _chosen(manifest: Manifest, config: ExportConfig) -> Kept:
    passed = [artifact for artifact in manifest.artifacts if artifact.status == "passed"]
    artifacts = {
        key: artifact
        for artifact in passed
        if (key := (artifact.format, artifact.precision)) in KINDS
        and key not in config.pairs
        and artifact.engine is None
    }
    sources = {artifact.sha256 for artifact in artifacts.values()}
    engines = [
        # Its latency was measured beside files of another export: no comparison.
        artifact.model_copy(update={"latency": None})
        for artifact in passed
        if artifact.engine is not None and artifact.engine.source_sha256 in sources
    ]
    built = [engine for engine in manifest.built if engine.rtx.source_sha256 in sources]
    return Kept(manifest, artifacts, engines, built)


def _copy(entry: FileEntry, out: Path, folder: Path) -> None:
    (folder / entry.file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(out / entry.file, folder / entry.file)


def _why_lost(entry: Artifact | BuiltEngine) -> str:
    """Why a file of an earlier bundle did not stay."""
    record = entry.rtx if isinstance(entry, BuiltEngine) else entry.engine
    if entry.status == "failed":
        return "failed its gate"
    if record is not None:
        return f"the {record.source} that it was built from did not stay"
    assert isinstance(entry, Artifact)
    if (entry.format, entry.precision) not in KINDS:
        return f"{entry.format} {entry.precision} is unknown to this version"
    return "named again, and not written here"


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
