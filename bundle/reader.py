"""Opening a bundle: everything verified before anything is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import MldrError
from .atomic import sha256
from .debris import lies_in_debris
from .golden import Golden, load_golden, verify_classes, verify_preprocessing
from .manifest import FILE, Artifact, FileEntry, Manifest, read_manifest
from .tensors import read_tensors


@dataclass(frozen=True)
class Bundle:
    """A folder whose content is what its manifest says. True when every artifact passed parity."""

    path: Path
    manifest: Manifest
    allow_failed: bool = False

    def __bool__(self) -> bool:
        return all(artifact.status == "passed" for artifact in self.manifest.artifacts)

    def artifact(self, precision: str = "fp32", format: str = "onnx") -> Artifact:
        """The artifact of that kind. Raises MldrError when there is none or it failed parity."""
        for artifact in self.manifest.artifacts:
            if (artifact.precision, artifact.format) == (precision, format):
                if artifact.status == "failed" and not self.allow_failed:
                    raise MldrError(refusal(self.path, artifact))
                return artifact
        listed = ", ".join(f"{a.format} {a.precision}" for a in self.manifest.artifacts)
        raise MldrError(f"{self.path} holds no {format} {precision} artifact, only {listed}")

    def file(self, entry: FileEntry) -> Path:
        """Where a file of the manifest lies."""
        return self.path / entry.file

    @cached_property
    def golden(self) -> Golden:
        """The golden images."""
        return load_golden(self.file(self.manifest.golden))

    @property
    def unlisted(self) -> list[str]:
        """Files in the folder that its manifest does not list and no system left, by path."""
        listed = {FILE, *(entry.file for entry in self.manifest.files)}
        present = {path.relative_to(self.path).as_posix() for path in _entries(self.path)}
        return sorted(file for file in present - listed if not lies_in_debris(file))

    def weights(self) -> dict[str, NDArray[Any]]:
        """The trained tensors by name."""
        return read_tensors(self.file(self.manifest.weights))


def open_bundle(path: Path, *, verify: bool = True, allow_failed: bool = False) -> Bundle:
    """The bundle in the folder ``path``.

    ``verify`` hashes every file, preprocesses the golden images again, bit for bit, and compares
    the class names. Raises
    MldrError when the folder is no bundle, was changed, comes from another version, or when none
    of its artifacts passed parity or the student is no better than chance (unless
    ``allow_failed``).
    """
    try:
        return _opened(path, verify, allow_failed)
    except OSError as error:
        raise MldrError(
            f"{error.filename or path} cannot be read ({error.strerror or error}): give this user "
            "the right to read the whole bundle"
        ) from None


def _opened(path: Path, verify: bool, allow_failed: bool) -> Bundle:
    if not (path / FILE).is_file():
        raise MldrError(
            f"{path} is not a bundle ({FILE} is missing): give the folder that "
            "`mldr-deploy export` wrote"
        )
    manifest = read_manifest(path)
    bundle = Bundle(path, manifest, allow_failed)
    for file in (FILE, *(entry.file for entry in manifest.files)):
        _require_inside(path, file)
    if verify:
        for entry in manifest.files:
            _verify_file(bundle.file(entry), entry)
        golden, golden_path = bundle.golden, bundle.file(manifest.golden)
        verify_preprocessing(golden, manifest.preprocessing, golden_path)
        verify_classes(golden, manifest.labels, golden_path)
    if not allow_failed and all(a.status == "failed" for a in manifest.artifacts):
        raise MldrError(refusal(path, manifest.artifacts[0]))
    if not allow_failed:
        require_better_than_chance(bundle)
    return bundle


def require_better_than_chance(bundle: Bundle) -> None:
    """Raise MldrError, with advice, for a bundle whose student learned nothing."""
    if (warning := bundle.manifest.warning) is not None:
        raise MldrError(f"{bundle.path}: {warning}; allow failed artifacts to look into it")


def _entries(folder: Path) -> Iterator[Path]:
    """Every file in ``folder``, at any depth, and every link to a folder; none is followed."""
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        yield from (Path(root, name) for name in (*files, *links))


def _require_inside(folder: Path, file: str) -> None:
    """Raise MldrError where ``file`` is, or lies behind, a link that leads out of ``folder``.

    The Hub's cache keeps the files of REPO/snapshots/REVISION as links into REPO/blobs: these are
    followed, for there lies nothing but what was fetched of the same repository.
    """
    home, target = folder.resolve(), (folder / file).resolve()
    snapshots = home.parent
    blobs = [snapshots.parent / "blobs"] if snapshots.name == "snapshots" else []
    if not any(target.is_relative_to(place) for place in (home, *blobs)):
        raise MldrError(
            f"{folder / file} is a link out of the bundle, to {target}: put the file itself there"
        )


def _verify_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise MldrError(f"{path} is missing: copy the whole bundle or export it again")
    size = path.stat().st_size
    if size != entry.bytes:
        raise MldrError(
            f"{path} was changed after export ({size} bytes, the manifest says {entry.bytes}): "
            "export the bundle again"
        )
    if sha256(path) != entry.sha256:
        raise MldrError(
            f"{path} was changed after export (its SHA-256 is not the manifest's): "
            "export the bundle again"
        )


def refusal(path: Path, artifact: Artifact) -> str:
    """Why an artifact that failed parity is not run, in one line."""
    return (
        f"{path / artifact.file} failed its parity gate ({'; '.join(artifact.parity.failures)}): "
        "it is not what was trained; export again, or allow failed artifacts to look into it"
    )
