"""Opening a bundle: everything verified before anything is used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import MldrError
from .atomic import sha256
from .golden import Golden, load_golden, verify_classes, verify_preprocessing
from .manifest import FILE, OLDEST_SCHEMA, SCHEMA_VERSION, Artifact, FileEntry, Manifest
from .schema import read_record
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
        held = ", ".join(f"{a.format} {a.precision}" for a in self.manifest.artifacts)
        raise MldrError(f"{self.path} holds no {format} {precision} artifact, only {held}")

    def file(self, entry: FileEntry) -> Path:
        """Where a file of the manifest lies."""
        return self.path / entry.file

    @cached_property
    def golden(self) -> Golden:
        """The golden images."""
        return load_golden(self.file(self.manifest.golden))

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
    manifest = read_record(path / FILE, Manifest, newest=SCHEMA_VERSION, oldest=OLDEST_SCHEMA)
    bundle = Bundle(path, manifest, allow_failed)
    if verify:
        for entry in manifest.files:
            _verify_file(bundle.file(entry), entry)
        golden, where = bundle.golden, bundle.file(manifest.golden)
        verify_preprocessing(golden, manifest.preprocessing, where)
        verify_classes(golden, manifest.labels, where)
    if not allow_failed and all(a.status == "failed" for a in manifest.artifacts):
        raise MldrError(refusal(path, manifest.artifacts[0]))
    if not allow_failed:
        require_better_than_chance(bundle)
    return bundle


def require_better_than_chance(bundle: Bundle) -> None:
    """Raise MldrError, with advice, for a bundle whose student learned nothing."""
    if (warning := bundle.manifest.warning) is not None:
        raise MldrError(f"{bundle.path}: {warning}; allow failed artifacts to look into it")


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
