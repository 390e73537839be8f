"""A kind of artifact: what its writer takes, what it says of its file, and what runs the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle.engine import EngineRecord
from ..bundle.manifest import Island, Runnable
from ..bundle.precisions import PRECISIONS
from ..bundle.preprocess import Preprocessing
from ..bundle.progress import Progress
from ..bundle.quantization import Quantization
from ..runtimes.model_file import ModelFile
from ..runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from ..runtimes.runtime import Runtime, RuntimeOptions
from .answer_memory import AnswerMemory
from .calibration import Calibration
from .claims import Graph, read_graph
from .export_config import ExportConfig
from .trained_student import Student

if TYPE_CHECKING:
    from ..data.split import Split


@dataclass(frozen=True)
class ExportContext:
    """Everything that an artifact may be made from.

    ``folder`` is the bundle as far as it is written: the fp32 ONNX file is always there first, and
    an engine finds the ONNX file of its own precision there too.
    """

    student: Student
    folder: Path
    config: ExportConfig
    calibration: Calibration
    validation: Split  # empty where the data have none: refuse, if it is needed
    progress: Progress
    memory: AnswerMemory = field(default_factory=AnswerMemory)  # of the student

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the student's inputs."""
        return self.student.record.preprocessing

    def onnx(self, precision: str = "fp32") -> Path:
        """Where the ONNX file of ``precision`` lies."""
        return self.folder / PRECISIONS[precision].file


@dataclass(frozen=True)
class Written:
    """One file in ``ExportContext.folder``; what is said of it here goes into the manifest."""

    file: str
    opset: int | None = None
    islands: tuple[Island, ...] = ()
    quantization: Quantization | None = None
    engine: EngineRecord | None = None
    beside: tuple[str, ...] = ()  # further files of it


Runs = Callable[[Path, Runnable, int], Runtime]  # (bundle, file, threads; 0: one per core)


def in_onnx_runtime(folder: Path, runnable: Runnable, threads: int) -> Runtime:
    """The runtime of a file that ONNX Runtime's CPU provider computes as it is."""
    return OnnxRuntimeCpu(ModelFile(folder / runnable.file), RuntimeOptions(threads=threads))


@dataclass(frozen=True)
class ArtifactKind:
    """How one kind of artifact is written and run.

    ``write`` may raise Unavailable: this machine lacks what it takes, the rest is exported.
    ``source``: the ONNX precision that it is made from, which is then written before it.
    """

    write: Callable[[ExportContext], Written]
    run: Runs = in_onnx_runtime  # for proofs
    source: str = "fp32"
    runtime: str = "ONNX Runtime"
    emulated: bool = False  # ``run`` computes what the file should, but is not what will run it
    itself: Runs | None = None  # what runs the file, if ``run`` does not and there is something
    read: Callable[[Path], Graph] | None = read_graph  # what the file says of itself, if anything
    caveat: str = ""  # what a proof on the exporting machine does not reach

    @property
    def is_graph(self) -> bool:
        """Whether it is an ONNX file, whose nodes bisect can look into."""
        return self.read is read_graph

    @property
    def timed(self) -> Runs | None:
        """What a latency may be measured of: never a file for another machine."""
        if self.caveat:
            return None
        return self.itself if self.emulated else self.run
