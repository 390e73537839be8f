"""LiteRT files of one layer, written by LiteRT's own schema: their converter is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_linear(path: Path, weights: Any, shape: tuple[int, ...], *, int8: bool = False) -> Path:
    """``path``: logits = ``weights`` [C, N] times the image of ``shape``, flattened in its order.

    ``int8``: weights of 8 bits with one scale a class.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT()
    model.version, code = 3, schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    model.operatorCodes = [code]
    scale = np.abs(weights).max(1) / 127
    stored = np.round(weights / scale[:, None]).astype(np.int8) if int8 else weights
    content = schema.BufferT()
    content.data = np.frombuffer(np.ascontiguousarray(stored).tobytes(), np.uint8)
    model.buffers = [schema.BufferT(), content]
    float32, eight = schema.TensorType.FLOAT32, schema.TensorType.INT8
    ends = [
        ("args_0", shape, float32, 0),
        ("weights", stored.shape, eight if int8 else float32, 1),
        ("output_0", (shape[0], len(weights)), float32, 0),
    ]
    tensors = []
    for name, sizes, kind, buffer in ends:
        tensor: Any = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(sizes), kind, buffer
        tensors.append(tensor)
    if int8:
        tensors[1].quantization = schema.QuantizationParametersT()
        tensors[1].quantization.scale = scale.astype(np.float32)
        tensors[1].quantization.zeroPoint = np.zeros(len(scale), np.int64)
    layer: Any = schema.OperatorT()
    layer.opcodeIndex, layer.inputs, layer.outputs = 0, [0, 1, -1], [2]
    layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    layer.builtinOptions = schema.FullyConnectedOptionsT()
    graph: Any = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [2], [layer]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
