"""Restrictions of single operators and patterns; each rule yields (node, what is wrong).

Source of the restrictions: the same support matrix as ``operators.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .graph import GraphView, attribute
from .operators import CONSTANT_INPUTS

_POOLS = ("AveragePool", "MaxPool", "LpPool")
_MOST_K = 3840


def constants(view: GraphView) -> Iterator[tuple[Any, str]]:
    """Axes, scales and depths must be known at build time."""
    for node in view.nodes:
        for position in CONSTANT_INPUTS.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            if name and name not in view.constants:
                yield node, f"its input {name} must be a constant"


def pooling(view: GraphView) -> Iterator[tuple[Any, str]]:
    """2D or 3D, no dilation, no indices."""
    for node in view.nodes:
        if node.op_type not in _POOLS:
            continue
        if len(attribute(node, "kernel_shape", [1, 1])) not in (2, 3):
            yield node, "only 2D and 3D pooling is supported"
        if any(step != 1 for step in attribute(node, "dilations", [])):
            yield node, "dilated pooling is not supported"
        if len([name for name in node.output if name]) > 1:
            yield node, "the indices of a maximum are not supported"


def resizing(view: GraphView) -> Iterator[tuple[Any, str]]:
    """Nearest and linear, stretched, without antialiasing."""
    modes = {"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric"}
    for node in view.nodes:
        if node.op_type != "Resize":
            continue
        mode = attribute(node, "mode", "nearest")
        if mode not in ("nearest", "linear"):
            yield node, f"mode {mode} is not supported: use nearest or linear"
        where = attribute(node, "coordinate_transformation_mode", "half_pixel")
        if where not in modes | {"align_corners"}:
            yield node, f"coordinate_transformation_mode {where} is not supported"
        if attribute(node, "antialias", 0):
            yield node, "antialiasing is not supported"
        if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
            yield node, "only keep_aspect_ratio_policy stretch is supported"


def outputs(view: GraphView) -> Iterator[tuple[Any, str]]:
    """Training leftovers: statistics of normalisations, dropout that draws."""
    for node in view.nodes:
        extra = [name for name in node.output[1:] if name]
        if node.op_type == "LayerNormalization" and extra:
            yield node, f"only its first output is supported, not {', '.join(extra)}"
        if node.op_type == "BatchNormalization" and attribute(node, "training_mode", 0):
            yield node, "it is in training mode: export in evaluation mode"
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            training = view.value(node.input[2])
            if training is not None and training.any():
                yield node, "it is in training mode: export in evaluation mode"


def scattering_and_sorting(view: GraphView) -> Iterator[tuple[Any, str]]:
    """ScatterND without reduction; TopK sorted and small."""
    for node in view.nodes:
        reduction = attribute(node, "reduction", "none")
        if node.op_type == "ScatterND" and reduction != "none":
            yield node, f"reduction {reduction} is not supported"
        if node.op_type == "TopK":
            if not attribute(node, "sorted", 1):
                yield node, "sorted = 0 is not supported"
            k = view.value(node.input[1])
            if k is not None and int(k.ravel()[0]) >= _MOST_K:
                yield node, f"k = {int(k.ravel()[0])}, supported are less than {_MOST_K}"


def quantisation(view: GraphView) -> Iterator[tuple[Any, str]]:
    """Q/DQ: zero points zero, int8 or fp8 (E4M3), positive finite scales, always in pairs."""
    for node in view.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        yield from ((node, text) for text in _scale_and_zero(view, node))
        if node.op_type == "QuantizeLinear":
            takers = view.consumers.get(node.output[0], [])
            if not takers or any(taker.op_type != "DequantizeLinear" for taker in takers):
                yield node, "a QuantizeLinear must feed DequantizeLinear and nothing else"


def _scale_and_zero(view: GraphView, node: Any) -> Iterator[str]:
    scale = view.value(node.input[1])
    if scale is not None and not (np.isfinite(scale.astype(np.float64)) & (scale > 0)).all():
        yield "its scale is not positive and finite everywhere"
    if len(node.input) < 3 or not node.input[2]:
        quantised = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        kind = view.types.get(quantised, "INT8")
    else:
        zero = view.value(node.input[2])
        kind = view.types.get(node.input[2], "INT8")
        if zero is not None and (zero.astype(np.float64) != 0).any():
            yield "its zero point is not zero: TensorRT takes symmetric quantisation only"
    if kind not in ("INT8", "FLOAT8E4M3FN"):
        yield f"it quantises to {kind}: use INT8 (signed) or FLOAT8E4M3FN"


def decomposed_normalisation(view: GraphView) -> Iterator[tuple[Any, str]]:
    """LayerNormalization taken apart: mean, difference, square, mean, root, quotient.

    It builds, but its square overflows in fp16 and nothing fuses it: it should be one node.
    """
    for node in view.nodes:
        if node.op_type not in ("Div", "Mul") or len(node.input) < 2:
            continue
        if _is_centred(view, node.input[0]) and _is_deviation(view, node.input[1]):
            yield node, "a LayerNormalization in pieces: export it as one node (opset 17 or newer)"


def _is_centred(view: GraphView, name: str) -> bool:
    maker = view.producer.get(name)
    if maker is None or maker.op_type != "Sub":
        return False
    mean = view.producer.get(maker.input[1])
    return mean is not None and mean.op_type == "ReduceMean" and mean.input[0] == maker.input[0]


def _is_deviation(view: GraphView, name: str) -> bool:
    """Whether ``name`` is a root of a mean of squares (plus epsilon), or its reciprocal."""
    for operators in (("Reciprocal",), ("Sqrt", "Pow"), ("Add",), ("ReduceMean",)):
        maker = view.producer.get(name)
        if maker is not None and maker.op_type in operators:
            name = maker.input[0]
        elif operators[0] in ("Sqrt", "ReduceMean"):
            return False
    square = view.producer.get(name)
    return square is not None and (
        square.op_type == "Pow" or (square.op_type == "Mul" and square.input[0] == square.input[1])
    )


def random(view: GraphView) -> Iterator[tuple[Any, str]]:
    """Random numbers make parity impossible."""
    for node in view.nodes:
        if node.op_type.startswith("Random"):
            yield node, "it draws random numbers, and TensorRT ignores its seed"


ERRORS = (constants, pooling, resizing, outputs, scattering_and_sorting, quantisation)
WARNINGS = (decomposed_normalisation, random)
