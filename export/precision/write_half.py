"""The fp16 and bf16 artifacts."""

from __future__ import annotations

from typing import Any

from ...bundle.manifest import Island
from ..job import ONNX_FILES, Job, Written
from .graph import load_graph, opset_of, save_graph
from .half import to_half
from .islands import BF16, FP16, ElementType, islands
from .ranges import largest_magnitudes

_BATCH = 16
_BF16_OPSET = 22  # the first in which Conv, pooling and batch normalisation take bf16


def write_fp16(job: Job) -> Written:
    """The graph in fp16. Raises MldrError when values of the fp32 graph are not finite."""
    return _write(job, load_graph(job.onnx()), FP16)


def write_bf16(job: Job) -> Written:
    """The graph in bf16, in the operator set 22 at least, which its operators need."""
    return _write(job, _in_opset(load_graph(job.onnx()), _BF16_OPSET), BF16)


def _write(job: Job, proto: Any, kind: ElementType) -> Written:
    from onnx import TensorProto

    batches, total = job.calibration.batches(_BATCH), len(job.calibration)
    largest = largest_magnitudes(proto, batches, total, job.progress)
    kept = islands(proto, largest, kind, job.config.islands)
    element = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[kind.name]
    save_graph(to_half(proto, element, set(kept)), job.onnx(kind.name))
    notes = tuple(Island(node=name, reason=reason) for name, reason in kept.items())
    return Written(ONNX_FILES[kind.name], opset=opset_of(proto), islands=notes)


def _in_opset(proto: Any, opset: int) -> Any:
    """``proto`` in ``opset`` at least."""
    import onnx

    if opset_of(proto) >= opset:
        return proto
    return onnx.shape_inference.infer_shapes(onnx.version_converter.convert_version(proto, opset))
