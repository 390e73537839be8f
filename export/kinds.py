"""The kinds of artifact that export can write; a new precision or engine adds a file and a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..bundle.engine import FORMAT, RTX
from ..bundle.manifest import Runnable
from ..runtimes.runner import OnnxRunner, Runner
from .config import ExportConfig
from .job import ONNX_FILES, Job, Written
from .onnx_export import export_onnx
from .precision.emulated import EmulatedRunner
from .precision.write_half import write_bf16, write_fp16
from .precision.write_quantised import write_fp8, write_int8, write_int8_symmetric
from .tensorrt.kind import run, writer
from .tensorrt.write import source_of

Runs = Callable[[Path, Runnable, int], Runner]  # (bundle, file, threads; 0: one per core)
Key = tuple[str, str]  # (target, precision), as `format` and `precision` of a manifest's artifact


@dataclass(frozen=True)
class ArtifactKind:
    """How one kind of artifact is written and run.

    ``write`` may raise Unavailable: this machine lacks what it takes, the rest is exported.
    ``source``: the ONNX precision that it is made from, which is then written before it.
    """

    write: Callable[[Job], Written]
    run: Runs  # for proofs
    source: str = "fp32"
    runtime: str = "ONNX Runtime"
    emulated: bool = False  # ``run`` computes what the file should, but is not what will run it
    itself: Runs | None = None  # what runs the file, if ``run`` does not and there is something
    is_graph: bool = True  # an ONNX file, whose nodes bisect can look into

    @property
    def timed(self) -> Runs | None:
        """What a latency may be measured of."""
        return self.itself if self.emulated else self.run


def _onnx_fp32(job: Job) -> Written:
    student = job.student
    export_onnx(student.model, student.record.image_size, job.onnx(), job.config)
    return Written(ONNX_FILES["fp32"], opset=job.config.opset)


def _in_onnx_runtime(folder: Path, runnable: Runnable, threads: int) -> Runner:
    return OnnxRunner(folder / runnable.file, threads)


def _without_fusions(folder: Path, runnable: Runnable, threads: int) -> Runner:
    return OnnxRunner(folder / runnable.file, threads, fusions=False)


def _emulating(folder: Path, runnable: Runnable, threads: int) -> Runner:
    return EmulatedRunner(folder / runnable.file, threads)


FIRST: Key = ("onnx", "fp32")
KINDS: dict[Key, ArtifactKind] = {
    FIRST: ArtifactKind(_onnx_fp32, _in_onnx_runtime),
    ("onnx", "fp16"): ArtifactKind(write_fp16, _emulating, emulated=True, itself=_in_onnx_runtime),
    ("onnx", "bf16"): ArtifactKind(write_bf16, _emulating, emulated=True),
    ("onnx", "int8"): ArtifactKind(write_int8, _in_onnx_runtime),
    ("onnx", "int8-symmetric"): ArtifactKind(write_int8_symmetric, _in_onnx_runtime),
    ("onnx", "fp8"): ArtifactKind(write_fp8, _without_fusions, emulated=True),
}
# Each ONNX precision may become an engine.
KINDS |= {
    (FORMAT, precision): ArtifactKind(
        writer(precision), run, source_of(precision), runtime="TensorRT", is_graph=False
    )
    for precision in ONNX_FILES
}


def plan(config: ExportConfig) -> list[Key]:
    """What ``config`` asks for, each after what it is made from; the fp32 ONNX file always first.

    So the ONNX file that an engine was built from is always in the bundle: where another GPU or
    another version finds the engine unusable, it is built again from there.
    """
    keys: dict[Key, None] = {FIRST: None}
    for target in config.targets:
        for precision in config.precisions:
            if target == RTX:  # an engine that was not run is no artifact: tensorrt/built.py
                keys["onnx", source_of(precision)] = None
                continue
            keys["onnx", KINDS[target, precision].source] = None
            keys[target, precision] = None
    return list(keys)
