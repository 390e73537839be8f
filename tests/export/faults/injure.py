"""Changes to an ONNX graph, each what a known bug of exporters, converters or people leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = Any
_MULTIPLYING = ("Conv", "Gemm", "MatMul")
Injury = Callable[[Any], None]  # changes a ModelProto in place


def weight(name: str, change: Callable[[Array], Array]) -> Injury:
    """One initializer becomes what ``change`` makes of it."""

    def injure(proto: Any) -> None:
        tensor = _initializer(proto, name)
        changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
        tensor.CopyFrom(numpy_helper.from_array(changed, name))

    return injure


def swapped(one: str, other: str) -> Injury:
    """Two initializers of one shape change places."""

    def injure(proto: Any) -> None:
        a, b = (_initializer(proto, name) for name in (one, other))
        first, second = numpy_helper.to_array(a), numpy_helper.to_array(b)
        assert first.shape == second.shape
        a.CopyFrom(numpy_helper.from_array(second, one))
        b.CopyFrom(numpy_helper.from_array(first, other))

    return injure


def weights(arrays: dict[str, Array]) -> Injury:
    """Every initializer that bears the name of one of ``arrays`` becomes it."""

    def injure(proto: Any) -> None:
        for tensor in proto.graph.initializer:
            if tensor.name in arrays:
                tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))

    return injure


def attribute(op_type: str, name: str, value: Any, which: int = 0) -> Injury:
    """An attribute of the ``which``-th node of a type is set."""

    def injure(proto: Any) -> None:
        node = [n for n in proto.graph.node if n.op_type == op_type][which]
        for old in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(old)
        node.attribute.append(helper.make_attribute(name, value))

    return injure


def node(name: str, change: Callable[[Any], None]) -> Injury:
    """A node is changed."""

    def injure(proto: Any) -> None:
        (found,) = [n for n in proto.graph.node if n.name == name]
        change(found)

    return injure


def producer(value: str, change: Callable[[Any], None]) -> Injury:
    """The node that gives ``value`` is changed."""

    def injure(proto: Any) -> None:
        (found,) = [n for n in proto.graph.node if value in n.output]
        change(found)

    return injure


def after(value: str, make: Callable[[str, str], list[Any]], *constants: Array) -> Injury:
    """Nodes are put behind ``value``: ``make(from, to)``; ``constants`` are named c0, c1, ..."""

    def injure(proto: Any) -> None:
        graph, moved = proto.graph, value + "_before"
        at = next(i for i, n in enumerate(graph.node) if value in n.output)
        producer = graph.node[at]
        producer.output[list(producer.output).index(value)] = moved
        for offset, new in enumerate(make(moved, value)):
            graph.node.insert(at + 1 + offset, new)
        for k, constant in enumerate(constants):
            array = np.asarray(constant)
            graph.initializer.append(numpy_helper.from_array(array, f"c{k}"))

    return injure


def batch_statistics(value: str) -> Injury:
    """A BatchNorm in training mode: a map is normalised by its own batch."""

    def make(x: str, y: str) -> list[Any]:
        return [
            helper.make_node("ReduceMean", [x, "c0"], ["bn_mean"], "bn_ReduceMean"),
            helper.make_node("Sub", [x, "bn_mean"], ["bn_centred"], "bn_Sub"),
            helper.make_node("Mul", ["bn_centred", "bn_centred"], ["bn_square"], "bn_Square"),
            helper.make_node("ReduceMean", ["bn_square", "c0"], ["bn_variance"], "bn_Variance"),
            helper.make_node("Sqrt", ["bn_variance"], ["bn_deviation"], "bn_Sqrt"),
            helper.make_node("Add", ["bn_deviation", "c1"], ["bn_safe"], "bn_Add"),
            helper.make_node("Div", ["bn_centred", "bn_safe"], [y], "bn_Div"),
        ]

    return after(value, make, np.array([0, 2, 3]), np.float32(1e-3))


def drawn_mask(value: str) -> Injury:
    """Dropout spelled out: a mask is drawn at every run."""

    def make(x: str, y: str) -> list[Any]:
        return [
            helper.make_node("RandomUniformLike", [x], ["drawn"], "node_RandomUniformLike"),
            helper.make_node("Greater", ["drawn", "c0"], ["kept"], "node_Greater"),
            helper.make_node("Cast", ["kept"], ["mask"], "node_Mask", to=TensorProto.FLOAT),
            helper.make_node("Mul", [x, "mask"], [y], "node_Drop"),
        ]

    return after(value, make, np.float32(0.3))


def dropout(value: str, ratio: float = 0.3) -> Injury:
    """Dropout as the exporter writes it for a model in training mode."""

    def make(x: str, y: str) -> list[Any]:
        return [helper.make_node("Dropout", [x, "c0", "c1"], [y], "node_Dropout")]

    return after(value, make, np.float32(ratio), np.array(True))


def half(proto: Any) -> None:
    """Every Conv, Gemm and MatMul computes in fp16 between two casts."""
    graph = proto.graph
    for index in range(len(graph.node) - 1, -1, -1):
        here = graph.node[index]
        if here.op_type not in _MULTIPLYING:
            continue
        casts = []
        for k, name in enumerate(here.input):
            low = f"{here.name}_half_{k}"
            casts.append(helper.make_node("Cast", [name], [low], low, to=TensorProto.FLOAT16))
            here.input[k] = low
        result, low = here.output[0], f"{here.name}_half"
        here.output[0] = low
        graph.node.insert(index + 1, helper.make_node("Cast", [low], [result], low + "_up", to=1))
        for cast in reversed(casts):
            graph.node.insert(index, cast)


def rounded(bits: int) -> Injury:
    """The weights that are multiplied keep ``bits`` bits, rounded to nearest (TF32: 10)."""

    def injure(proto: Any) -> None:
        drop = np.uint32(23 - bits)
        multiplied = {n.input[1] for n in proto.graph.node if n.op_type in _MULTIPLYING}
        for tensor in proto.graph.initializer:
            if tensor.name not in multiplied or tensor.data_type != TensorProto.FLOAT:
                continue
            raw = numpy_helper.to_array(tensor).copy().view(np.uint32)
            kept = (raw + (np.uint32(1) << (drop - 1))) >> drop << drop
            tensor.CopyFrom(numpy_helper.from_array(kept.view(np.float32), tensor.name))

    return injure


def activation_scales(change: Callable[[float], float], *, only: str = "") -> Injury:
    """The scales of quantised activations, or of the one value ``only``, are changed."""

    def injure(proto: Any) -> None:
        constants = {tensor.name for tensor in proto.graph.initializer}
        names = {
            node.input[1]
            for node in proto.graph.node
            if node.op_type == "QuantizeLinear" and node.input[0] not in constants
            if only in ("", node.input[0])
        }
        assert names
        for name in sorted(names):
            weight(name, lambda scale: np.full_like(scale, change(scale.item())))(proto)

    return injure


def opset(version: int) -> Injury:
    """The file says another operator set than its nodes were written in."""

    def injure(proto: Any) -> None:
        (entry,) = [entry for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
        entry.version = version

    return injure


def fixed_batch(size: int) -> Injury:
    """Traced with one example, without a dynamic batch."""

    def injure(proto: Any) -> None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = size

    return injure


def move_outside(path: Path, *, truncate: bool = False, swap: bool = False) -> None:
    """Store the file's tensors in FILE.data beside it, and damage that one."""
    proto = onnx.load(path)
    onnx.save(
        proto, path, save_as_external_data=True, location=path.name + ".data", size_threshold=0
    )
    data = path.with_name(path.name + ".data")
    content = data.read_bytes()
    if truncate:
        data.write_bytes(content[: len(content) // 2])
    if swap:
        middle = len(content) // 8 * 4
        data.write_bytes(content[middle:] + content[:middle])


def _initializer(proto: Any, name: str) -> Any:
    (found,) = [tensor for tensor in proto.graph.initializer if tensor.name == name]
    return found
