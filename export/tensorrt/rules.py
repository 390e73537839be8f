"""What no parser says of a graph: our own runtime's limits, and faults that build silently.

Each rule yields (name, operator, what is wrong).
"""

from __future__ import annotations

from collections.abc import Iterator

from ...bundle.engine import Profile
from .graph_view import GraphView, named

Complaint = tuple[str, str, str]


def ends(view: GraphView, profile: Profile) -> Iterator[Complaint]:
    """Inputs: float32, and no dynamic axis but the batch, which the profile covers."""
    graph = view.proto.graph
    inputs = [value for value in graph.input if value.name not in view.initializers]
    for value in [*inputs, *graph.output]:
        kind = view.types.get(value.name)
        if kind != "FLOAT":
            yield value.name, "Graph", f"is {kind}, the runtime feeds and fetches FLOAT"
    for value in inputs:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            fixed = dim.dim_value if dim.HasField("dim_value") else None
            if axis == 0 and fixed is not None and not profile.min == fixed == profile.max:
                text = (
                    f"the batch is fixed at {fixed}, the profile asks for {profile.min} to "
                    f"{profile.max}: export with a dynamic batch"
                )
                yield value.name, "Graph", text
            elif axis > 0 and fixed is None:
                text = f"axis {axis} ({dim.dim_param or 'unknown'}) is dynamic and in no profile"
                yield value.name, "Graph", text


def silent(view: GraphView) -> Iterator[Complaint]:
    """What the library takes and computes as something else: UINT8 as INT8, DOUBLE as FLOAT."""
    for node in view.nodes:
        kind = view.main_type(node)
        if kind == "DOUBLE":
            text = f"{node.input[0]} is DOUBLE, which TensorRT computes as FLOAT: cast it"
            yield named(node), node.op_type, text
        if node.op_type == "QuantizeLinear":
            kind = view.types.get(node.output[0])
            if kind == "UINT8":
                text = "it quantises to UINT8, which TensorRT computes as INT8: quantise to INT8"
                yield named(node), node.op_type, text


def decomposed_normalisation(view: GraphView) -> Iterator[Complaint]:
    """A normalisation taken apart: its square overflows in fp16, and nothing fuses it."""
    for node in view.nodes:
        if node.op_type not in ("Div", "Mul") or len(node.input) < 2:
            continue
        first, second = node.input[:2]
        ways = [(first, second)] if node.op_type == "Div" else [(first, second), (second, first)]
        for operand, root in ways:
            square = _squared(view, root)
            if square is None:
                continue
            if _is_centred(view, operand):
                text = "a LayerNormalization in pieces: export it as one node (opset 17 or newer)"
                yield named(node), node.op_type, text
            elif operand == square and view.types.get(square) == "FLOAT16":
                text = "an RMSNormalization in pieces in fp16: its square overflows beyond 255"
                yield named(node), node.op_type, text


def _is_centred(view: GraphView, name: str) -> bool:
    maker = view.producer.get(name)
    if maker is None or maker.op_type != "Sub":
        return False
    mean = view.producer.get(maker.input[1])
    return mean is not None and mean.op_type == "ReduceMean" and mean.input[0] == maker.input[0]


def _squared(view: GraphView, name: str) -> str | None:
    """The value of which ``name`` is a root of the mean of squares (plus epsilon), or one over it.

    None: it is something else.
    """
    for operators in (("Reciprocal",), ("Sqrt", "Pow"), ("Add",), ("ReduceMean",)):
        maker = view.producer.get(name)
        if maker is not None and maker.op_type in operators:
            name = maker.input[0]
        elif operators[0] in ("Sqrt", "ReduceMean"):
            return None
    square = view.producer.get(name)
    if square is None:
        return None
    by_itself = square.op_type == "Mul" and square.input[0] == square.input[1]
    return str(square.input[0]) if square.op_type == "Pow" or by_itself else None


def random(view: GraphView) -> Iterator[Complaint]:
    """Random numbers make parity impossible."""
    for node in view.nodes:
        if node.op_type.startswith("Random"):
            text = "it draws random numbers, and TensorRT ignores its seed"
            yield named(node), node.op_type, text
