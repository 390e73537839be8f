"""Engines as a kind of artifact (``kinds.py``): how export writes one and everyone runs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...bundle.manifest import Runnable
from ...bundle.precisions import PRECISIONS
from ...runtimes.model_file import ModelFile
from ...runtimes.runtime import Runtime
from ...runtimes.tensorrt import TensorRt
from ..artifact_kind import ArtifactKind, ExportContext, Written
from .write import write_engine


def engine_kind(precision: str) -> ArtifactKind:
    """The engine of ``precision``; each ONNX precision may become one."""
    source = PRECISIONS[precision].built_from
    return ArtifactKind(writer(precision), run, source, runtime="TensorRT", read=None)


def writer(precision: str) -> Callable[[ExportContext], Written]:
    """Writes the engine of ``precision`` from the bundle's ONNX file."""

    def write(context: ExportContext) -> Written:
        config = context.config
        files = write_engine(
            context.onnx(PRECISIONS[precision].built_from),
            context.folder,
            precision,
            config.max_batch,
            config.engine,
            context.progress,
        )
        return Written(files.plan, engine=files.record, beside=(files.layers,))

    return write


def run(folder: Path, runnable: Runnable, threads: int) -> Runtime:
    """The runtime of an engine, which says in ``load`` whether it is for this machine."""
    return TensorRt(ModelFile(folder / runnable.file, runnable))
