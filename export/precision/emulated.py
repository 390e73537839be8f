"""Proving a 16-bit graph on a CPU: fp32 arithmetic, each result rounded to the 16 bits.

ONNX Runtime's CPU provider (1.32) has hardly any bf16 kernels, so that such a file does not load.
An fp16 file does, but what lies between two casts that the provider inserted is computed in fp32
without any rounding: a graph that overflows on every GPU looks healthy there. A matrix unit
multiplies 16-bit numbers, adds in fp32 and rounds the sum once, which is what this does too. The
file itself is read, with its weights and its islands; only the arithmetic is emulated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...bundle.manifest import Runnable
from ...runtimes.model_file import ModelFile
from ...runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from ...runtimes.runtime import Runtime, RuntimeOptions
from .graph import element_types, load_graph

_EXACT = {  # what comes out is what went in
    "Reshape", "Transpose", "Concat", "Slice", "Gather", "Split", "Squeeze", "Unsqueeze", "Flatten",
    "Identity", "Expand", "Relu", "MaxPool", "Clip", "Max", "Min", "Where", "Pad", "Neg", "Abs",
}  # fmt: skip


def emulating(folder: Path, runnable: Runnable, threads: int) -> Runtime:
    """The runtime of a 16-bit file's proof."""
    return emulated(folder / runnable.file, threads)


def emulated(path: Path, threads: int = 0) -> Runtime:
    """``emulable`` of the file in ONNX Runtime."""
    content = bytes(emulable(load_graph(path)).SerializeToString())
    return OnnxRuntimeCpu(ModelFile(path, content=content), RuntimeOptions(threads=threads))


def emulable(proto: Any) -> Any:
    """The same computation in fp32 values that the 16 bits can hold. Works in place."""
    import onnx

    halves = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    low = {name: kind for name, kind in element_types(proto).items() if kind in halves}
    graph = proto.graph
    for tensor in graph.initializer:
        if tensor.name in low:
            tensor.CopyFrom(_widened(tensor))
    nodes: list[Any] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type in halves:
                attribute.t.CopyFrom(_widened(attribute.t))
        rounding = [name for name in node.output if name in low and node.op_type not in _EXACT]
        if node.op_type == "Cast" and rounding:
            nodes += _rounded(node.input[0], node.output[0], low[node.output[0]])
            continue
        for name in rounding:
            position = list(node.output).index(name)
            node.output[position] = f"{name}/exact"
        nodes.append(node)
        for name in rounding:
            nodes += _rounded(f"{name}/exact", name, low[name])
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return proto


def _rounded(name: str, result: str, kind: int) -> list[Any]:
    """``result`` = ``name`` rounded to the type ``kind``, as fp32."""
    from onnx import TensorProto, helper

    narrow = f"{result}/rounded"
    return [
        helper.make_node("Cast", [name], [narrow], to=kind),
        helper.make_node("Cast", [narrow], [result], to=TensorProto.FLOAT),
    ]


def _widened(tensor: Any) -> Any:
    import numpy as np
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)
