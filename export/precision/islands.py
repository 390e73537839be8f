"""Which nodes must go on computing in fp32, by the ranges measured on real images.

See docs/design.md, section Precisions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

# Nodes that average squares of what they are given.
_SQUARING = {
    "LayerNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "ReduceSumSquare",
    "ReduceL2",
    "LpNormalization",
}
_SUMMING = {"ReduceSum", "ReduceMean", "ReduceL1", "CumSum", "GlobalAveragePool"}
# Steps of a normalisation or a softmax that is written out, where roundings of 8 bits add up.
_SENSITIVE = {"Pow", "Exp", "Log", "Sqrt", "Reciprocal", "Softplus", "ReduceLogSumExp"}
# Their float16 forms are missing from the standard or from runtimes.
_NEVER = {
    *("Celu", "Range", "EyeLike", "Multinomial", "NonMaxSuppression", "If", "Loop", "Scan"),
}


class IslandConfig(BaseModel):
    """What makes a node of a half-precision graph stay in fp32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: float = Field(
        default=4.0,
        ge=1,
        description="Values on unseen images may be that many times larger than on training "
        "images before the type overflows.",
    )


@dataclass(frozen=True)
class ElementType:
    """A 16-bit float: its name, and the powers of two that bound it."""

    name: str
    largest: float  # finite
    smallest: float  # normal
    bits: int  # of the significand, the hidden one included
    lacks: frozenset[str] = frozenset()  # operators without a form in it, beside those of no type


def islands(
    proto: Any, largest: dict[str, float], kind: ElementType, config: IslandConfig
) -> dict[str, str]:
    """Names of the nodes that stay in fp32, each with the reason.

    ``largest``: ``ranges.largest_magnitudes`` of the same graph. A node stays when

    - one of its values, times the margin, does not fit ``kind``, or all of them are below its
      normal numbers;
    - the squares (of a normalisation) or the sum (of a mean) that it forms inside do not fit;
    - a constant of one element, an epsilon say, would become zero or lose digits;
    - its operator has no form in ``kind``, by the standard or in TensorRT;
    - for a significand of 8 bits: it is a reduction, or one step of a normalisation or softmax.
    """
    scalars, counts = _scalars(proto), _reduced_counts(proto)
    reasons: dict[str, str] = {}
    for node in proto.graph.node:
        reason = _reason(node, largest, scalars, counts, kind, config.margin)
        if reason is not None:
            reasons[node.name] = reason
    return reasons


def _reason(
    node: Any,
    largest: dict[str, float],
    scalars: dict[str, float],
    counts: dict[str, int],
    kind: ElementType,
    margin: float,
) -> str | None:
    op = node.op_type
    values = [name for name in [*node.input, *node.output] if name in largest]
    if not values:
        return None
    if op in _NEVER or op in kind.lacks:
        return f"{op} has no {kind.name} form"
    limit = kind.largest / margin
    peak = max(largest[name] for name in values)
    if peak > limit:
        return f"{peak:.3g} does not fit {kind.name}"
    first = largest.get(node.input[0], 0.0) if node.input else 0.0
    if op in _SQUARING and first**2 > limit:
        return f"the square of {first:.3g} does not fit {kind.name}"
    if op in _SUMMING and first * counts.get(node.name, 1) > limit:
        return f"a sum of {counts[node.name]} values of {first:.3g} does not fit {kind.name}"
    outputs = [largest[name] for name in node.output if name in largest]
    if outputs and 0 < max(outputs) < kind.smallest:
        return f"{max(outputs):.3g} is below the normal numbers of {kind.name}"
    for name in node.input:
        if 0 < scalars.get(name, 0.0) < kind.smallest:
            return f"the constant {scalars[name]:.3g} is below the normal numbers of {kind.name}"
    if kind.bits <= 8 and op in _SENSITIVE | _SUMMING | _SQUARING:
        return f"{op} needs more than {kind.bits} bits"
    return None


def _scalars(proto: Any) -> dict[str, float]:
    """Magnitudes of float constants of one element."""
    from onnx import TensorProto, numpy_helper

    magnitudes = {}
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) == 1:
            magnitudes[tensor.name] = abs(float(numpy_helper.to_array(tensor).item()))
    return magnitudes


def _reduced_counts(proto: Any) -> dict[str, int]:
    """How many elements each summing node adds up, where its input's shape is static there."""
    from onnx import numpy_helper

    graph = proto.graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.value_info]
    }
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    counts = {}
    for node in graph.node:
        shape = shapes.get(node.input[0]) if node.input and node.op_type in _SUMMING else None
        if not shape:
            continue
        axes = np.arange(2, len(shape)) if node.op_type == "GlobalAveragePool" else None
        if axes is None and len(node.input) > 1 and node.input[1] in constants:
            axes = np.atleast_1d(constants[node.input[1]])
        if axes is not None:
            sizes = [shape[int(axis)] for axis in axes]
            counts[node.name] = max(math.prod(sizes), 1)
    return counts
