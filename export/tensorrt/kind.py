"""Engines as a kind of artifact (``kinds.py``): how export writes one and everyone runs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...bundle.manifest import Runnable
from ...bundle.precisions import PRECISIONS
from ...runtimes.model_file import ModelFile
from ...runtimes.runtime import Runtime
from ...runtimes.tensorrt import TensorRt
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


def run(folder: Path, runnable: Runnable, threads: int) -> Runtime:
    """The runtime of an engine, which says in ``load`` whether it is for this machine."""
    return TensorRt(ModelFile(folder / runnable.file, runnable))
