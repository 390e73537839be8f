"""TensorRT engines for this machine in a bundle that exists already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bundle.engine import FORMAT
from ..bundle.manifest import Artifact, BuiltEngine
from ..bundle.progress import Progress
from ..bundle.reader import open_bundle
from ..errors import MldrError
from ..export.rebuild_engine import engine_here
from ..export.tensorrt.engine_config import EngineConfig
from ..export.tensorrt.rtx_engines import rtx_engine_here
from ..export.tensorrt.write import engine_of
from .validation import validated


def build_engines(
    path: Path,
    precisions: tuple[str, ...],
    settings: dict[str, Any],
    source: str | None,
    root: Path | None,
    *,
    golden_only: bool,
    progress: Progress,
) -> list[Artifact]:
    """The engines of ``precisions`` (none: every ONNX file that passed) for this machine.

    ``settings`` are EngineConfig's keys. Proven on the whole test split, or with ``golden_only``
    on the golden images. Raises MldrError for the bundle, Unavailable for the machine or the data.
    """
    from .recorded import recorded_dataset

    config = validated(EngineConfig, settings, "engine")
    manifest = open_bundle(path, allow_failed=True).manifest
    dataset = None
    if not golden_only:
        dataset = recorded_dataset(manifest.data, source, root, progress=progress)
        if manifest.labels != [*dataset.classes]:
            raise MldrError(f"{dataset.source} has other classes than {path}: give its data set")
    engine_precisions = precisions or tuple(_buildable(manifest.artifacts))
    return [
        engine_here(path, p, config, dataset=dataset, progress=progress) for p in engine_precisions
    ]


def build_rtx_engines(
    path: Path, precisions: tuple[str, ...], settings: dict[str, Any], *, progress: Progress
) -> list[BuiltEngine]:
    """TensorRT-RTX engines of ``precisions`` (none: every ONNX file that passed); not run.

    Raises MldrError for the bundle and the settings, Unavailable where TensorRT-RTX is not
    installed or refuses a graph.
    """
    config = validated(EngineConfig, settings, "engine")
    for key, fixed_value in (("hardware", "none"), ("version_compatible", False)):
        if getattr(config, key) != fixed_value:
            raise MldrError(
                f"TensorRT-RTX engines know no {key}: they run on the compute capabilities that "
                "they are built for (--capabilities), with the version that built them"
            )
    manifest = open_bundle(path, allow_failed=True).manifest
    engine_precisions = precisions or tuple(_buildable(manifest.artifacts))
    return [rtx_engine_here(path, p, config, progress) for p in engine_precisions]


def ready_to_serve(path: Path, runtime: str, artifact: str | None, *, progress: Progress) -> None:
    """Where TensorRT is to serve ``path`` and no engine fits this machine, build one.

    ``artifact`` is a precision or a file, as `serve` takes it. A bundle from another GPU or
    TensorRT version is served all the same; the new engine is proven on the golden images.
    """
    if runtime != FORMAT:
        return
    manifest = open_bundle(path, allow_failed=True).manifest
    matching = [a for a in manifest.artifacts if artifact in (None, a.precision, a.file)]
    engines = [a.precision for a in matching if a.format == FORMAT]
    for precision in dict.fromkeys(engines or _buildable(matching)[-1:]):
        engine_here(path, precision, progress=progress)


def _buildable(artifacts: list[Artifact]) -> list[str]:
    """Precisions of the engines that the ONNX files which passed are good for."""
    passed = [a.precision for a in artifacts if (a.format, a.status) == ("onnx", "passed")]
    return [named for onnx in passed if (named := engine_of(onnx)) is not None]
