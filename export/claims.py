"""What an ONNX file says of itself, held against what the manifest says of it.

Accuracy cannot tell a half-precision artifact that silently stayed fp32 from a very good one, nor
bytes that no hash covers from bytes that one does. So the graph is read: its operator set, inputs
and outputs, where its tensors lie, and in which precision each weighted operator computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle.manifest import Island, TensorSpec
from ..bundle.precisions import by_width, precision_named, precision_of_type
from ..bundle.quantization import Quantization
from ..errors import MldrError

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INTEGER = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm")
# These move data and compute nothing: a precision is seen through them.
MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather")
_DRAWING = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
_LISTED = 4  # nodes named at most


@dataclass(frozen=True)
class Port:
    """An input or output: element type as ONNX names it, sizes; None is a dynamic size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype.lower()} [{sizes}]"


@dataclass(frozen=True)
class Graph:
    """What the file says. ``computes``: weighted operator's node name -> precision.

    ``training`` are nodes that draw random numbers or take statistics of the batch, whatever this
    machine's runtime makes of them: ONNX Runtime on CPUs passes Dropout by, others do not.
    """

    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    outside: dict[str, str]  # tensor -> file beside the ONNX file that holds its bytes
    computes: dict[str, str]
    training: tuple[str, ...] = ()

    def tally(self) -> dict[str, int]:
        """Number of weighted operators by precision."""
        return dict(Counter(self.computes.values()))


@dataclass(frozen=True)
class Claims:
    """What the manifest says of the file.

    ``elsewhere`` are nodes that it lists as not computing in ``precision``; ``exactly``, if given,
    are the only ones that do.
    """

    precision: str
    opset: int | None
    input: Port
    output: Port
    elsewhere: frozenset[str] = frozenset()
    exactly: frozenset[str] | None = None


def port(spec: TensorSpec) -> Port:
    """A manifest's input or output."""
    sizes = (size if isinstance(size, int) else None for size in spec.shape)
    return Port(spec.name, {"float32": "FLOAT"}[spec.dtype], tuple(sizes))


def claims_of(
    precision: str,
    opset: int | None,
    ends: tuple[TensorSpec, TensorSpec],
    islands: Iterable[Island],
    quantization: Quantization | None,
) -> Claims:
    """The claims of one artifact; ``ends`` are the manifest's input and output."""
    return Claims(
        precision=precision_named(precision).computes_in,
        opset=opset,
        input=port(ends[0]),
        output=port(ends[1]),
        elsewhere=frozenset(island.node for island in islands),
        exactly=None if quantization is None else frozenset(quantization.quantised),
    )


def read_graph(path: Path) -> Graph:
    """Read ``path``. Raises MldrError when it is no ONNX file."""
    import onnx
    import onnx.inliner

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors share no base class
        reason = " ".join(str(error).split())[:200]
        raise MldrError(f"{path} is not a readable ONNX file ({reason})") from None
    if not proto.graph.node:  # protobuf reads an empty file as an empty message
        raise MldrError(f"{path} is not a readable ONNX file (no node is in it)")
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    return Graph(
        opset=next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0),
        inputs=tuple(_port(value) for value in graph.input if value.name not in constants),
        outputs=tuple(_port(value) for value in graph.output),
        outside=dict(_outside(graph)),
        computes=_computes(proto),
        training=tuple(_training(graph)),
    )


def broken(graph: Graph, claims: Claims) -> list[str]:
    """Every claim that the file does not bear out, in words."""
    breaches = []
    if graph.outside:
        tensor, file = next(iter(graph.outside.items()))
        breaches.append(
            f"{len(graph.outside)} tensors ({tensor}, ...) lie outside of the artifact in {file}, "
            "which no hash of the manifest covers"
        )
    if graph.training:
        breaches.append(
            f"{', '.join(graph.training[:_LISTED])} compute as in training: they draw random "
            "numbers or take statistics of the batch"
        )
    if claims.opset is not None and graph.opset != claims.opset:
        breaches.append(f"the file has opset {graph.opset}, the manifest says {claims.opset}")
    for end, ports, claimed in (
        ("input", graph.inputs, claims.input),
        ("output", graph.outputs, claims.output),
    ):
        if ports != (claimed,):
            actual = ", ".join(map(str, ports)) or "nothing"
            batch = ports[0].shape[:1] if ports else ()
            fixed = f": its batch is fixed at {batch[0]}" if batch and batch[0] else ""
            breaches.append(f"the file's {end} is {actual}, the manifest says {claimed}{fixed}")
    return breaches + _broken_precision(graph, claims)


def _broken_precision(graph: Graph, claims: Claims) -> list[str]:
    computes, precision = graph.computes, claims.precision
    inside = {name for name, computed in computes.items() if computed == precision}
    if not inside:
        tally = ", ".join(f"{n} in {name}" for name, n in sorted(graph.tally().items()))
        return [
            f"the artifact is called {precision}, but none of its Conv, Gemm and MatMul nodes "
            f"computes in it ({tally or 'there are none'})"
        ]
    if claims.exactly is not None:
        wrong = sorted(inside ^ (claims.exactly & computes.keys()))
    else:
        wrong = sorted(computes.keys() - inside - claims.elsewhere)
    if not wrong:
        return []
    listed = ", ".join(f"{name} in {computes[name]}" for name in wrong[:_LISTED])
    return [
        f"the artifact is called {precision}, but {len(wrong)} nodes compute otherwise than the "
        f"manifest says: {listed}"
    ]


def _port(value: Any) -> Port:
    import onnx

    tensor = value.type.tensor_type
    sizes = (d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return Port(value.name, onnx.TensorProto.DataType.Name(tensor.elem_type), tuple(sizes))


def _outside(graph: Any) -> Iterator[tuple[str, str]]:
    import onnx

    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            places = {entry.key: entry.value for entry in tensor.external_data}
            yield tensor.name, places.get("location", "an unnamed file")


def _training(graph: Any) -> Iterator[str]:
    """Nodes that make the logits depend on more than the image."""
    from onnx import TensorProto, numpy_helper

    flags = (t for t in graph.initializer if t.data_type == TensorProto.BOOL)
    true = {t.name for t in flags if numpy_helper.to_array(t).all()}
    for node in graph.node:
        modes = [a.i for a in node.attribute if a.name == "training_mode"]
        dropping = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in true
        if node.op_type in _DRAWING or any(modes) or dropping:
            yield f"{node.op_type} {node.name}"


def _computes(proto: Any) -> dict[str, str]:
    """The precision of every weighted operator: the wider of its two operands'."""
    types, producer = _types(proto), {}
    for node in proto.graph.node:
        producer.update(dict.fromkeys(node.output, node))
    precisions = {}
    for node in proto.graph.node:
        if node.op_type in _INTEGER:
            precisions[node.name] = "int8"
        elif node.op_type in _WEIGHTED:
            operands = [_operand(name, producer, types) for name in node.input[:2]]
            precisions[node.name] = next(iter(by_width(operands)), operands[0])
    return precisions


def computed_by(name: str, producer: dict[str, Any]) -> Any | None:
    """The node that computes a value, moves seen through; None for an input or a constant.

    ``producer``: the node of every computed value.
    """
    while (node := producer.get(name)) is not None and node.op_type in MOVES:
        name = node.input[0]
    return node


def _operand(name: str, producer: dict[str, Any], types: dict[str, str]) -> str:
    """The precision that a value carries: what it was dequantised from, if it was."""
    node = computed_by(name, producer)
    if node is not None and node.op_type == "DequantizeLinear":
        return types.get(node.input[0], "unknown")
    return types.get(name, "unknown")


def _types(proto: Any) -> dict[str, str]:
    """Precision by value. Types that the file itself notes are left out: they may be stale."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(bare).graph
    numbers = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        numbers.setdefault(value.name, value.type.tensor_type.elem_type)
    name = onnx.TensorProto.DataType.Name
    types = {key: name(number) for key, number in numbers.items()}
    return {key: precision_of_type(kind) or kind.lower() for key, kind in types.items()}
