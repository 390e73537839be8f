"""Engines as a kind of artifact (``kinds.py``): how export writes one and everyone runs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

from ...bundle.manifest import Runnable
from ...bundle.precisions import PRECISIONS
from ...bundle.preprocess import Floats
from ...errors import Unavailable
from ...runtimes.engine_runner import EngineError, EngineRunner
from ...runtimes.runner import RunError
from ...runtimes.tensorrt_machine import this_machine
from ..job import Job, Written
from .write import write_engine


def writer(precision: str) -> Callable[[Job], Written]:
    """Writes the engine of ``precision`` from the bundle's ONNX file."""

    def write(job: Job) -> Written:
        config = job.config
        files = write_engine(
            job.onnx(PRECISIONS[precision].built_from),
            job.folder,
            precision,
            config.max_batch,
            config.engine,
            job.progress,
        )
        return Written(files.plan, engine=files.record, beside=(files.layers,))

    return write


def run(folder: Path, runnable: Runnable, threads: int) -> EngineArtifact:
    """The runner of an engine. Raises Unavailable when it is not for this machine."""
    record = runnable.engine
    if record is None:
        raise RunError(f"{folder / runnable.file} is no TensorRT engine by its manifest")
    reason = record.misfit(this_machine())
    if reason is not None:
        raise Unavailable(f"{runnable.file}: {reason}: mldr-deploy build-engine makes one for here")
    return EngineArtifact(
        folder / runnable.file, runnable.sha256, version_compatible=record.version_compatible
    )


class EngineArtifact(EngineRunner):
    """An engine whose failures are those of any artifact: parity counts them, not a traceback."""

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except EngineError as error:
            raise RunError(str(error)) from error

    def __call__(self, inputs: Floats) -> Floats:
        try:
            return super().__call__(inputs)
        except EngineError as error:
            raise RunError(str(error)) from error
