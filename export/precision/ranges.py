"""How large every intermediate value gets on real images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...bundle.preprocess import Floats
from ...bundle.progress import Progress
from ...errors import MldrError
from .graph import element_types

_SUFFIX = "/largest"


def largest_magnitudes(
    proto: Any, batches: Iterable[Floats], total: int, progress: Progress
) -> dict[str, float]:
    """Largest absolute value of every float32 value of the graph, constants included.

    The graph runs in ONNX Runtime as written, without its fusions, so that each value exists.
    ``batches`` hold ``total`` images. Raises MldrError when a value is NaN or infinite.
    """
    from onnx import TensorProto, numpy_helper

    magnitudes = {
        t.name: _peak(numpy_helper.to_array(t))
        for t in proto.graph.initializer
        if t.data_type == TensorProto.FLOAT
    }
    types = element_types(proto)
    produced = [name for node in proto.graph.node for name in node.output]
    names = [n for n in produced if types.get(n) == TensorProto.FLOAT]
    names += [value.name for value in proto.graph.input if types[value.name] == TensorProto.FLOAT]
    session = _session(proto, names)
    magnitudes |= dict.fromkeys(names, 0.0)
    progress.start("measuring ranges", total)
    for batch in batches:
        peaks = session.run(None, {session.get_inputs()[0].name: batch})
        for name, peak in zip(names, peaks, strict=True):
            magnitudes[name] = (
                max(magnitudes[name], float(peak)) if np.isfinite(peak) else float("inf")
            )
        progress.advance(len(batch))
    progress.finish()
    for name, peak in magnitudes.items():
        if not np.isfinite(peak):
            raise MldrError(
                f"{name} of the fp32 graph is NaN or infinite on a training image: lower "
                "precisions cannot mend that; train again"
            )
    return magnitudes


def _session(proto: Any, names: list[str]) -> Any:
    """The graph with ``max |x|`` of each of ``names`` as its only outputs, in their order."""
    import onnx
    import onnxruntime

    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    del wide.graph.output[:], wide.graph.value_info[:]
    for name in names:
        magnitude, peak = f"{name}/magnitude", name + _SUFFIX
        wide.graph.node.append(onnx.helper.make_node("Abs", [name], [magnitude]))
        wide.graph.node.append(onnx.helper.make_node("ReduceMax", [magnitude], [peak], keepdims=0))
        wide.graph.output.append(
            onnx.helper.make_tensor_value_info(peak, onnx.TensorProto.FLOAT, [])
        )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        wide.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _peak(values: Any) -> float:
    return float(np.abs(values).max(initial=0.0))
