"""Check that the scales of a Q/DQ graph come from real images.

Accuracy alone does not show it: one wrong scale, or ranges measured on noise, may cost less than
the gate allows. So the range of every activation in the file is compared with the values of the
same name in the fp32 graph, on the images that the manifest names as the calibration set. No
calibration method sets a range beyond the largest value or clips more than a small share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.preprocess import Floats

_BEYOND = 1.05  # part of the largest value that a range may end at: sums in another order
_CUT = 0.02  # share of the values that a range may cut off: entropy calibration cuts most
_STEP = 0.51  # of a quantised weight's scale: rounding to nearest, and float32
_LISTED = 3  # complaints at most, and how many more there are


@dataclass(frozen=True)
class Range:
    """What a QuantizeLinear node can tell apart, in units of its input."""

    node: str
    value: str
    lowest: float
    highest: float
    step: float

    @property
    def reach(self) -> float:
        """Largest magnitude that is not cut off."""
        return max(-self.lowest, self.highest)


def wrong_scales(artifact: Path, original: Path, batches: Iterable[Floats]) -> list[str]:
    """Every scale of ``artifact`` that does not fit, in words.

    ``original`` is the fp32 ONNX file that it was made from, ``batches`` the calibration images.
    """
    import onnx

    quantised, plain = onnx.load(str(artifact)), onnx.load(str(original))
    ranges = activation_ranges(quantised)
    produced = {name for node in plain.graph.node for name in node.output}
    produced |= {value.name for value in plain.graph.input}
    ranges = [entry for entry in ranges if entry.value in produced]
    complaints = [*_wrong_weights(quantised, plain), *_wrong_ranges(plain, ranges, batches)]
    unlisted = len(complaints) - _LISTED
    return complaints[:_LISTED] + ([f"{unlisted} more scales do not fit"] if unlisted > 0 else [])


def activation_ranges(proto: Any) -> list[Range]:
    """The range of every QuantizeLinear whose input is computed and whose scale is one number."""
    constants = _constants(proto)
    ranges = []
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants:
            continue
        scale = constants.get(node.input[1])
        zero = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
        if scale is None or scale.size != 1 or zero is None:
            continue
        low, high = (scale.item() * (limit - float(zero.item())) for limit in _limits(zero.dtype))
        ranges.append(Range(node.name, node.input[0], low, high, scale.item()))
    return ranges


def _limits(code: Any) -> tuple[float, float]:
    """The smallest and the largest value of the type ``code``."""
    import ml_dtypes

    library: Any = ml_dtypes  # without types
    try:
        limits = library.iinfo(code)
    except ValueError:
        limits = library.finfo(code)
    return float(limits.min), float(limits.max)


def _wrong_ranges(plain: Any, ranges: list[Range], batches: Iterable[Floats]) -> list[str]:
    if not ranges:
        return []
    largest = np.zeros(len(ranges))
    cut, images = np.zeros(len(ranges)), 0
    session = _measuring(plain, ranges)
    for batch in batches:
        values = session.run(None, {session.get_inputs()[0].name: batch})
        largest = np.maximum(largest, np.array(values[0::2], np.float64))
        cut += len(batch) * np.array(values[1::2], np.float64)
        images += len(batch)
    complaints, shared = [], dict.fromkeys(map(_bounds, ranges), 0.0)
    for entry, peak in zip(ranges, largest, strict=True):
        shared[_bounds(entry)] = max(shared[_bounds(entry)], peak)
    for entry, peak, share in zip(ranges, largest, cut / max(images, 1), strict=True):
        if share > _CUT:
            complaints.append(
                f"the scale of {entry.node} cuts off {100 * share:.0f} % of {entry.value} on the "
                f"calibration images: its range ends at {entry.reach:.3g}, they reach {peak:.3g}"
            )
        elif entry.reach > _BEYOND * shared[_bounds(entry)]:
            complaints.append(
                f"the scale of {entry.node} is not of the calibration images: its range ends at "
                f"{entry.reach:.3g}, {entry.value} reaches {peak:.3g} there"
            )
    return complaints


def _bounds(entry: Range) -> tuple[float, float]:
    """Equal for values that share a scale, as what pooling takes and gives do."""
    return entry.lowest, entry.highest


def _wrong_weights(quantised: Any, plain: Any) -> list[str]:
    """Dequantised weights that are not the fp32 ones to the nearest step, matched by name."""
    codes, weights = _constants(quantised), _constants(plain)
    complaints = []
    for node in quantised.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in codes:
            continue
        weight = weights.get(node.input[0].removesuffix("_quantized"))
        code, scale = codes[node.input[0]], codes.get(node.input[1])
        uniform = np.issubdtype(code.dtype, np.integer)  # the steps of fp8 are not
        if weight is None or scale is None or weight.shape != code.shape or not uniform:
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        steps = _along(scale, axis, code.ndim)
        zero = codes.get(node.input[2]) if len(node.input) > 2 else None
        offset = 0.0 if zero is None else _along(zero, axis, code.ndim).astype(np.float64)
        restored = (code.astype(np.float64) - offset) * steps
        worst = float((np.abs(restored - weight) / steps).max(initial=0.0))
        if worst > _STEP:
            complaints.append(
                f"the scale of {node.name} does not give back the weights: "
                f"{node.input[0]} is off by {worst:.3g} steps"
            )
    return complaints


def _along(values: NDArray[Any], axis: int, ndim: int) -> NDArray[Any]:
    """One number, or one for each index of ``axis``, ready to be broadcast."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


def _measuring(plain: Any, ranges: list[Range]) -> Any:
    """A session whose outputs are, for each range, max |x| and the share of x outside of it."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    wide = onnx.ModelProto()
    wide.CopyFrom(plain)
    graph = wide.graph
    del graph.output[:]
    for k, entry in enumerate(ranges):
        name = f"range{k}"
        slack = entry.step  # what loses no more than a step is not cut off
        bounds = {f"{name}/low": entry.lowest - slack, f"{name}/high": entry.highest + slack}
        for key, bound in bounds.items():
            graph.initializer.append(numpy_helper.from_array(np.array(bound, np.float32), key))
        graph.node.extend(
            [
                helper.make_node("Abs", [entry.value], [f"{name}/abs"]),
                helper.make_node("ReduceMax", [f"{name}/abs"], [f"{name}/peak"], keepdims=0),
                helper.make_node("Clip", [entry.value, *bounds], [f"{name}/held"]),
                helper.make_node("Equal", [entry.value, f"{name}/held"], [f"{name}/equal"]),
                helper.make_node("Not", [f"{name}/equal"], [f"{name}/beyond"]),
                helper.make_node(
                    "Cast", [f"{name}/beyond"], [f"{name}/flags"], to=onnx.TensorProto.FLOAT
                ),
                helper.make_node("ReduceMean", [f"{name}/flags"], [f"{name}/cut"], keepdims=0),
            ]
        )
        for output in ("peak", "cut"):
            graph.output.append(
                helper.make_tensor_value_info(f"{name}/{output}", onnx.TensorProto.FLOAT, [])
            )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        wide.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _constants(proto: Any) -> dict[str, NDArray[Any]]:
    from onnx import numpy_helper

    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
