"""The precision an engine really has, from the EngineInspector's JSON.

See docs/design.md, section TensorRT.

Others were given "fp16" engines that silently computed in fp32. So the types that the layers take
are counted and compared with the share of multiplying nodes that the ONNX graph has in that type.

TensorRT 10 writes a tensor's type as ``"Format/Datatype": "Row major linear FP16 format"`` (or
``"Half"``), TensorRT 11 as ``"Format"`` and ``"DataType"`` apart; fused kernels name it so too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from ...bundle.engine import PrecisionProof
from ...bundle.precisions import by_width, precision_of_type
from ...errors import MldrError
from .graph_view import GraphView

_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format")
_MULTIPLIES = re.compile(
    r"conv|gemm|matmul|matrix|matmult|mha|attention|fprop|xmma|cutlass", re.IGNORECASE
)
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Attention")
_LEAST = 0.5  # of the graph's share: fusion and elimination change the count, not its magnitude


def prove_precision(claimed: str, layers: str, graph: GraphView) -> PrecisionProof:
    """Hold the inspector's JSON ``layers`` against the precision that the artifact is called by."""
    every: Counter[str] = Counter()
    compute: Counter[str] = Counter()
    for layer in _parsed(layers):
        kind = input_precision(layer)
        if kind is not None:
            every[kind] += 1
            if multiplies(layer):
                compute[kind] += 1
    in_graph = graph_precisions(graph)
    expected = in_graph[claimed] / in_graph.total() if in_graph else 0.0
    return PrecisionProof(
        claimed=claimed,
        layers=dict(every.most_common()),
        compute=dict(compute.most_common()),
        expected=expected,
        reason=_objection(claimed, compute, expected),
    )


def _objection(claimed: str, compute: Counter[str], expected: float) -> str | None:
    total = compute.total()
    if not total:
        return "the inspector shows no layer that multiplies"
    share = compute[claimed] / total
    if claimed == "fp32":
        narrower = total - compute["fp32"]
        return f"{narrower} of {total} layers that multiply are narrower" if narrower else None
    if not expected:
        return f"no multiplying node of the ONNX graph takes {claimed}"
    if share < _LEAST * expected:
        return (
            f"{compute[claimed]} of {total} layers that multiply take {claimed}, and "
            f"{100 * expected:.0f} % of the graph's nodes do"
        )
    return None


def input_precision(layer: dict[str, Any]) -> str | None:
    """The narrowest type among the tensors that a layer takes; None: integers, or nothing told."""
    tensors = (tensor for tensor in layer.get("Inputs", []) if isinstance(tensor, dict))
    text = " ".join(str(tensor[key]) for tensor in tensors for key in _KEYS if key in tensor)
    return next(reversed(by_width(re.findall(r"[A-Za-z0-9]+", text))), None)


def multiplies(layer: dict[str, Any]) -> bool:
    """Whether a layer is a convolution, a matrix product, or a fusion around one."""
    words = (
        layer.get("LayerType", ""),
        layer.get("ParameterType", ""),
        layer.get("TacticName", ""),
    )
    kind = str(layer.get("LayerType", "")).lower()
    # A fused kernel without a telling tactic says in its name what went into it.
    fused = str(layer.get("Name", "")) if kind in ("kgen", "fusion", "myelin") else ""
    return any(_MULTIPLIES.search(str(word)) for word in (*words, fused))


def graph_precisions(graph: GraphView) -> Counter[str]:
    """Multiplying nodes of the ONNX graph by the precision of what they take.

    A product whose inputs come from DequantizeLinear is one in the quantised type.
    """
    counted: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op_type not in _PRODUCTS:
            continue
        quantised = _quantised(graph, node)
        kind = quantised or precision_of_type(graph.types.get(node.input[0], ""))
        if kind is not None:
            counted[kind] += 1
    return counted


def _quantised(graph: GraphView, node: Any) -> str | None:
    makers = [graph.producer.get(name) for name in node.input[:2]]
    if any(maker is None or maker.op_type != "DequantizeLinear" for maker in makers):
        return None
    kinds = {precision_of_type(graph.types.get(maker.input[0], "")) for maker in makers if maker}
    return kinds.pop() if len(kinds) == 1 else None


def _parsed(layers: str) -> list[dict[str, Any]]:
    try:
        listed = json.loads(layers)["Layers"]
    except (ValueError, KeyError, TypeError):
        raise MldrError("TensorRT's inspector gave no JSON of layers: nothing is proven") from None
    if not all(isinstance(layer, dict) for layer in listed):
        raise MldrError(
            "TensorRT's inspector gave names only: the engine was not built with detailed verbosity"
        )
    return list(listed)
