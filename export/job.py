"""What the writer of an artifact is given, and what it tells of the file that it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle.engine import EngineRecord
from ..bundle.manifest import Island
from ..bundle.preprocess import Preprocessing
from ..bundle.progress import Progress
from ..bundle.quantization import Quantization
from .calibration import Calibration
from .config import ExportConfig
from .student import Student

if TYPE_CHECKING:
    from ..data.split import Split

ONNX_FILES = {  # by precision, inside the bundle
    "fp32": "student.onnx",
    "fp16": "student.fp16.onnx",
    "bf16": "student.bf16.onnx",
    "int8": "student.int8.onnx",
    "int8-symmetric": "student.int8-symmetric.onnx",
    "fp8": "student.fp8.onnx",
}


@dataclass(frozen=True)
class Job:
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

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the student's inputs."""
        return self.student.record.preprocessing

    def onnx(self, precision: str = "fp32") -> Path:
        """Where the ONNX file of ``precision`` lies."""
        return self.folder / ONNX_FILES[precision]


@dataclass(frozen=True)
class Written:
    """One file in ``Job.folder``; what is said of it here goes into the manifest."""

    file: str
    opset: int | None = None
    islands: tuple[Island, ...] = ()
    quantization: Quantization | None = None
    engine: EngineRecord | None = None
    beside: tuple[str, ...] = ()  # further files of it
