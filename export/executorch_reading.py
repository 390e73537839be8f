"""What an ExecuTorch program says of itself: its ends, and in what its layers compute.

XNNPACK's parts are flatbuffers inside of the file, which ExecuTorch's own tools take apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..bundle.precisions import by_width
from ..errors import MldrError
from ..runtimes.executorch import METHOD, require_executorch
from ..runtimes.runtime import one_line
from .claims import Graph, Port
from .onnx_export import INPUT, OUTPUT

# What multiplies -> the fields that name its operands.
_NODES = {
    "XNNFullyConnected": ("input1_id", "filter_id"),
    "XNNConv2d": ("input1_id", "filter_id"),
    "XNNDepthwiseConv2d": ("input1_id", "filter_id"),
    "XNNConvTranspose2d": ("input1_id", "filter_id"),
    "XNNBatchMatrixMultiply": ("input1_id", "input2_id"),
    "XNNScaledDotProductAttention": ("query_id", "key_id"),
}
# Of ExecuTorch's portable kernels, which have fp32 alone.
_KERNELS = ("convolution", "linear", "addmm", "mm", "bmm", "matmul")
_PREFIX = "xnn_datatype_"
_INFINITE = re.compile(rb'": (-?)inf')  # bounds of an activation, which JSON has no word for


def read_program(path: Path) -> Graph:
    """Read ``path``; its batch of one is what a runner loops over, and so counts as any.

    Raises MldrError when it is no ExecuTorch program, Unavailable where the library is missing.
    """
    require_executorch()
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        program = deserialize_pte_binary(path.read_bytes()).program
        (plan,) = (plan for plan in program.execution_plan if plan.name == METHOD)
        return Graph(
            opset=0,
            inputs=tuple(_port(INPUT, plan.values[k].val) for k in plan.inputs),
            outputs=tuple(_port(OUTPUT, plan.values[k].val) for k in plan.outputs),
            outside={},
            computes={**dict(_delegated(program, plan)), **dict(_kernels(plan))},
        )
    except Exception as error:  # its readers raise whatever the bytes provoke
        reason = one_line(error)
        raise MldrError(f"{path} is not a readable ExecuTorch program ({reason})") from None


def _port(name: str, tensor: Any) -> Port:
    batch, *sizes = tensor.sizes
    return Port(name, tensor.scalar_type.name, (None if batch == 1 else batch, *sizes))


def _delegated(program: Any, plan: Any) -> Iterator[tuple[str, str]]:
    """(node, precision) of every layer that XNNPACK computes: the wider of its operands'."""
    for number, delegate in enumerate(plan.delegates):
        payload = bytes(program.backend_delegate_data[delegate.processed.index].data)
        graph = _xnnpack(payload)
        types = dict(map(_type, graph["xvalues"]))
        for index, node in enumerate(graph["xnodes"]):
            kind = node["xnode_union_type"]
            if kind in _NODES:
                operands = [types[node["xnode_union"][field]] for field in _NODES[kind]]
                precision = next(iter(by_width(operands)), operands[0])
                yield f"delegate {number} {kind} {index}", precision


def _type(value: Any) -> tuple[int, str]:
    """A value's number and its type; every form of quantised 8 bits is int8."""
    content = value["xvalue_union"]
    tensor = content.get("tensor_value", content)
    name = tensor["datatype"].removeprefix(_PREFIX)
    return tensor["id_out"], "int8" if name.endswith("int8") else name


def _kernels(plan: Any) -> Iterator[tuple[str, str]]:
    """(node, precision) of every layer that is left to ExecuTorch's own kernels."""
    for chain in plan.chains:
        for index, instruction in enumerate(chain.instructions):
            call = instruction.instr_args
            if hasattr(call, "op_index"):
                name = plan.operators[call.op_index].name
                if name.removeprefix("aten::") in _KERNELS:
                    yield f"kernel {name} {index}", "fp32"


def _xnnpack(payload: bytes) -> Any:
    """The graph of one of XNNPACK's parts, as its schema names the fields."""
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as serialization
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = serialization.XNNHeader.from_bytes(payload[: serialization.XNNHeader.EXPECTED_LENGTH])
    begin = header.flatbuffer_offset
    with TemporaryDirectory(prefix="mldr-executorch-") as name:
        schema, binary = Path(name, "schema.fbs"), Path(name, "graph.bin")
        schema.write_bytes(serialization._get_schema_bytes())
        binary.write_bytes(payload[begin : begin + header.flatbuffer_size])
        _flatc_decompile(name, str(schema), str(binary))
        text = binary.with_suffix(".json").read_bytes()
        return json.loads(_INFINITE.sub(rb'": "\1inf"', text))
