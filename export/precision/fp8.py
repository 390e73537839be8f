"""fp8 (E4M3FN) from the symmetric int8 graph: the same places, the same ranges, another type.

ONNX Runtime's CPU provider (1.32) computes Q/DQ of this type rightly, but one of its fusions takes
a ReLU before such a pair away as if the type began at 0 (seen: top-1 from 95 to 10 %); so proofs
run without fusions, and the file is not one to serve from a CPU.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.manifest import Runnable
from ...runtimes.model_file import ModelFile
from ...runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from ...runtimes.runtime import Runtime, RuntimeOptions
from .qdq import SYMMETRIC
from .search import quantised_kind

_SCHEME = dataclasses.replace(SYMMETRIC, activations="fp8 (E4M3FN), symmetric, per tensor")
LARGEST = 448.0  # of E4M3FN
_INT8 = 127.0


def to_fp8(proto: Any, source: Any) -> Any:
    """``proto``, a symmetric int8 Q/DQ graph, with E4M3FN in place of int8. Works in place.

    A scale becomes largest / 448 where it was largest / 127; weights are quantised anew from
    ``source``, the fp32 graph. Rounding is to nearest, ties to even, and saturates.
    """
    from onnx import TensorProto, numpy_helper

    graph = proto.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    floats = {tensor.name: tensor for tensor in source.graph.initializer}
    pairs = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for name in {node.input[1] for node in pairs}:
        scale = numpy_helper.to_array(stored[name]) * np.float32(_INT8 / LARGEST)
        stored[name].CopyFrom(numpy_helper.from_array(scale.astype(np.float32), name))
    for name in {node.input[2] for node in pairs}:
        shape = numpy_helper.to_array(stored[name]).shape
        stored[name].CopyFrom(_fp8(np.zeros(shape, np.float32), name))
    for node in pairs:
        weight = stored.get(node.input[0])
        if node.op_type == "DequantizeLinear" and weight is not None:
            original = numpy_helper.to_array(floats[weight.name.removesuffix("_quantized")])
            scale = numpy_helper.to_array(stored[node.input[1]])
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            along = [-1 if k == axis else 1 for k in range(original.ndim)]
            scaled = original / (scale.reshape(along) if scale.ndim else scale)
            weight.CopyFrom(_fp8(np.clip(scaled, -LARGEST, LARGEST), weight.name))
    value_info = [v for v in graph.value_info if v.type.tensor_type.elem_type != TensorProto.INT8]
    del graph.value_info[:]
    graph.value_info.extend(value_info)
    return proto


def _fp8(values: Any, name: str) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    kind = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
    return numpy_helper.from_array(values.astype(kind), name)


def _without_fusions(folder: Path, runnable: Runnable, threads: int) -> Runtime:
    options = RuntimeOptions(threads=threads, fusions=False)
    return OnnxRuntimeCpu(ModelFile(folder / runnable.file), options)


KIND = quantised_kind("fp8", _SCHEME, to_fp8, run=_without_fusions, emulated=True)
