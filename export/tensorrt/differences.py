"""Where classic TensorRT takes less than TensorRT-RTX, whose parser lints for it without a GPU.

Source: the support matrix of the ONNX-TensorRT project (``docs/operators.md``) for TensorRT 10.15,
beside what the parser and builder of TensorRT-RTX 1.7.1 did with one model for each operator and
type (``tests/export/tensorrt/test_differences.py``, which fails when this table is not that
difference). Facts, not code. Where classic TensorRT itself can be asked, nothing of this is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .graph_view import GraphView, attribute

NEWEST_OPSET = 24
# By type of an operator's main input: operators that RTX builds and classic TensorRT does not list.
LACKS: dict[str, frozenset[str]] = {
    kind: frozenset(operators.split())
    for kind, operators in {
        "INT8": "Abs ArgMax ArgMin Clip DepthToSpace Expand EyeLike Flatten Gather GatherElements "
        "GatherND Identity MaxPool Neg OneHot ReduceMax ReduceMin Relu Reshape Resize "
        "ReverseSequence Shape Shrink Sign Size Slice SpaceToDepth Split Squeeze Tile TopK "
        "Transpose Trilu Unsqueeze Where Cast CastLike",
        "INT32": "Clip CumSum",
        "INT64": "Clip CumSum",
        "BOOL": "Equal Pad ScatterElements ScatterND",
        "BFLOAT16": "GridSample Swish",
        "FLOAT16": "Swish",
        "FLOAT": "Swish",
    }.items()
}


def classic(view: GraphView) -> Iterator[tuple[Any, str]]:
    """(node, what classic TensorRT has against it) where RTX's parser has nothing."""
    for node in view.nodes:
        kind = view.main_type(node)
        if kind is not None and node.op_type in LACKS.get(kind, ()):
            yield node, f"classic TensorRT's support matrix has no {node.op_type} of {kind}"
        if node.op_type == "TopK" and not attribute(node, "sorted", 1):
            yield node, "sorted = 0 is not supported"
        if node.op_type == "QuantizeLinear":
            takers = view.consumers.get(node.output[0], [])
            if not takers or any(taker.op_type != "DequantizeLinear" for taker in takers):
                yield node, "a QuantizeLinear must feed DequantizeLinear and nothing else"
