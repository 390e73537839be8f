"""What the artifacts of 16 bits have in common."""

from __future__ import annotations

from typing import Any

from ...bundle.precisions import PRECISIONS
from ..job import ArtifactKind, Job, Runs, Written
from .emulated import emulating
from .graph import load_graph, opset_of, save_graph
from .half import to_half
from .islands import ElementType, islands
from .ranges import largest_magnitudes

_BATCH = 16


def half_kind(element: ElementType, opset: int = 1, itself: Runs | None = None) -> ArtifactKind:
    """The kind of ``element``, in the operator set ``opset`` at least; ``itself`` as there."""

    def write(job: Job) -> Written:
        proto = _in_opset(load_graph(job.onnx()), opset)
        return _write(job, proto, element)

    return ArtifactKind(write, emulating, emulated=True, itself=itself)


def _write(job: Job, proto: Any, kind: ElementType) -> Written:
    from onnx import TensorProto

    row = PRECISIONS[kind.name]
    batches, total = job.calibration.batches(_BATCH), len(job.calibration)
    largest = largest_magnitudes(proto, batches, total, job.progress)
    kept = islands(proto, largest, kind, job.config.islands)
    half = to_half(proto, TensorProto.DataType.Value(row.onnx), set(kept))
    save_graph(half, job.onnx(kind.name))
    notes = tuple(f"{name}: {reason}" for name, reason in kept.items())
    return Written(row.file, opset=opset_of(proto), islands=notes)


def _in_opset(proto: Any, opset: int) -> Any:
    """``proto`` in ``opset`` at least."""
    import onnx

    if opset_of(proto) >= opset:
        return proto
    return onnx.shape_inference.infer_shapes(onnx.version_converter.convert_version(proto, opset))
