"""What a LiteRT file says of itself: its ends, and in what its layers compute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..bundle.precisions import precision_of_type
from ..errors import MldrError
from ..runtimes.litert import require_litert
from ..runtimes.runtime import one_line
from .claims import Graph, Port
from .onnx_export import INPUT, OUTPUT

# What multiplies; the second input of each is its weights.
_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
_IDENTIFIER = b"TFL3"  # of its files, at byte 4


def read_litert(path: Path) -> Graph:
    """Read ``path``; its batch of one is what a runner loops over, and so counts as any.

    Weights of 8 bits are multiplied by inputs that are brought to 8 bits at each call: int8.
    Raises MldrError when it is no LiteRT file, Unavailable where the library is missing.
    """
    require_litert()
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    try:
        if content[4:8] != _IDENTIFIER:
            raise ValueError(f"it does not begin with {_IDENTIFIER.decode()}")
        model: Any = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
        (graph,) = model.subgraphs
        return Graph(
            opset=0,
            inputs=tuple(_port(INPUT, graph.tensors[k], schema) for k in graph.inputs),
            outputs=tuple(_port(OUTPUT, graph.tensors[k], schema) for k in graph.outputs),
            outside={},
            computes=dict(_layers(model, graph, schema)),
        )
    except Exception as error:  # flatbuffers raises whatever the bytes provoke
        reason = one_line(error)
        raise MldrError(f"{path} is not a readable LiteRT file ({reason})") from None


def _port(name: str, tensor: Any, schema: Any) -> Port:
    batch, *sizes = (int(size) for size in tensor.shape)
    dtype = _word(schema.TensorType, tensor.type)
    shape = (None if batch == 1 else batch, *sizes)
    return Port(name, "FLOAT" if dtype == "FLOAT32" else dtype, shape)


def _layers(model: Any, graph: Any, schema: Any) -> Iterator[tuple[str, str]]:
    """(node, precision) of every layer, by its weights."""
    for index, node in enumerate(graph.operators):
        code = model.operatorCodes[node.opcodeIndex]
        # Numbers beyond a byte are in the newer field; files of both kinds are about.
        name = _word(schema.BuiltinOperator, max(code.builtinCode, code.deprecatedBuiltinCode))
        if name in _LAYERS:
            weights = _word(schema.TensorType, graph.tensors[node.inputs[1]].type)
            yield f"{name} {index}", precision_of_type(weights) or weights.lower()


def _word(table: type, number: int) -> str:
    """What the schema calls ``number``."""
    return next(name for name, value in vars(table).items() if value == number)
