"""Reading and writing ONNX graphs in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...bundle.atomic import write_bytes
from ...errors import MldrError


def load_graph(path: Path) -> Any:
    """The ONNX model at ``path`` with every value's type inferred. Raises MldrError if it is none.

    What is returned is an ``onnx.ModelProto``.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(str(path))
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (OSError, DecodeError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MldrError(f"{path} is not a readable ONNX file ({reason}): export again") from error


def save_graph(proto: Any, path: Path) -> None:
    """Check the model and write it in one step. Raises MldrError when the checker refuses it."""
    import onnx

    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise MldrError(f"{path}: the ONNX checker refuses it: {reason}") from error
    write_bytes(path, proto.SerializeToString(deterministic=True))


def element_types(proto: Any) -> dict[str, int]:
    """Element type of every value whose type is known: inputs, constants, what nodes give."""
    graph = proto.graph
    types = {t.name: t.data_type for t in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.HasField("tensor_type"):
            types[value.name] = value.type.tensor_type.elem_type
    return types


def opset_of(proto: Any) -> int:
    """Version of the standard operator set."""
    return int(max(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")))
