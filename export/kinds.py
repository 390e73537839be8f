"""The kinds of artifact that export can write; a new precision or engine adds a file and a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .config import ExportConfig
from .onnx_export import export_onnx
from .runner import OnnxRunner, Runner
from .student import Student


@dataclass(frozen=True)
class ArtifactKind:
    """How one artifact is called, written and run."""

    file: str
    format: str
    write: Callable[[Student, Path, ExportConfig], None]
    run: Callable[[Path, int], Runner]  # (file, threads)
    has_opset: bool = True


def _onnx_fp32(student: Student, path: Path, config: ExportConfig) -> None:
    export_onnx(student.model, student.record.image_size, path, config)


KINDS: dict[str, ArtifactKind] = {
    "fp32": ArtifactKind("student.onnx", "onnx", _onnx_fp32, OnnxRunner),
}
