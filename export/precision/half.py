"""A whole graph in fp16 or bf16, with fp32 islands; inputs and outputs stay fp32.

onnxruntime's and onnxconverter-common's ``convert_float_to_float16`` know no bf16 and leave the
nodes in an order that the ONNX checker refuses, so the conversion is here, for both types alike.
Every value has one type: that of the node that gives it. Where a reader wants the other one, a
Cast stands between, one for each value and type.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...bundle.manifest import Island
from ...bundle.precisions import PRECISIONS
from ...errors import MldrError
from ..job import ArtifactKind, Job, Runs, Written
from .emulated import emulating
from .graph import element_types, load_graph, opset_of, save_graph
from .islands import ElementType, islands
from .ranges import largest_magnitudes

_BATCH = 16
_ANY_TYPE = {"Shape", "Size"}  # what they give does not depend on the type that they read
_ALWAYS_FLOAT = {"Resize": (1, 2)}  # inputs that are fp32 by the standard (roi, scales)


def half_kind(element: ElementType, opset: int = 1, itself: Runs | None = None) -> ArtifactKind:
    """The kind of ``element``, in the operator set ``opset`` at least; ``itself`` as there."""

    def write(job: Job) -> Written:
        return _write(job, _in_opset(load_graph(job.onnx()), opset), element)

    return ArtifactKind(write, emulating, emulated=True, itself=itself)


def _write(job: Job, proto: Any, kind: ElementType) -> Written:
    from onnx import TensorProto

    row = PRECISIONS[kind.name]
    batches, total = job.calibration.batches(_BATCH), len(job.calibration)
    largest = largest_magnitudes(proto, batches, total, job.progress)
    kept = islands(proto, largest, kind, job.config.islands)
    half = to_half(proto, TensorProto.DataType.Value(row.onnx), set(kept))
    save_graph(half, job.onnx(kind.name))
    notes = tuple(Island(node=name, reason=reason) for name, reason in kept.items())
    return Written(row.file, opset=opset_of(proto), islands=notes)


def _in_opset(proto: Any, opset: int) -> Any:
    """``proto`` in ``opset`` at least."""
    import onnx

    if opset_of(proto) >= opset:
        return proto
    return onnx.shape_inference.infer_shapes(onnx.version_converter.convert_version(proto, opset))


def to_half(proto: Any, element: int, islands: set[str]) -> Any:
    """``proto`` (types inferred) with float32 replaced by ``element`` outside of ``islands``.

    ``element`` is TensorProto.FLOAT16 or BFLOAT16, ``islands`` names of nodes. Raises MldrError
    for a graph with subgraphs.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(proto)
    _Conversion(result, element, islands).carry_out()
    return onnx.shape_inference.infer_shapes(result)


class _Conversion:
    """One pass over the nodes in their order."""

    def __init__(self, proto: Any, element: int, islands: set[str]) -> None:
        from onnx import TensorProto

        self.graph, self.element, self.islands = proto.graph, element, islands
        self.float = TensorProto.FLOAT
        types = element_types(proto)
        self.floats = {name for name, kind in types.items() if kind == self.float}
        self.constants = {t.name: t for t in self.graph.initializer if t.name in self.floats}
        self.current: dict[str, int] = dict.fromkeys(
            self.floats, self.float
        )  # type that a value has now
        self.copies: dict[tuple[str, int], str] = {}  # (value, type) -> the value in that type
        self.nodes: list[Any] = []

    def carry_out(self) -> None:
        outputs = {value.name for value in self.graph.output} & self.floats
        for node in self.graph.node:
            if any(a.HasField("g") or a.graphs for a in node.attribute):
                raise MldrError(
                    f"{node.op_type} {node.name} holds a subgraph, which half precision does not "
                    "reach: export this model in fp32 or int8"
                )
            self._convert(node, outputs)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self._finish_constants()
        del self.graph.value_info[:]  # of the fp32 graph; the new types are inferred from the new

    def _convert(self, node: Any, outputs: set[str]) -> None:
        wanted = self.float if node.name in self.islands else self.element
        fixed = _ALWAYS_FLOAT.get(node.op_type, ())
        for position, name in enumerate(node.input):
            if name in self.floats and node.op_type not in _ANY_TYPE:
                kind = self.float if position in fixed else wanted
                node.input[position] = self._in_type(name, kind)
        if wanted == self.element:
            self._attributes(node)
        self.nodes.append(node)
        for position, name in enumerate(node.output):
            if name not in self.floats or wanted == self.float:
                continue
            if name in outputs:  # the graph still gives it in fp32
                node.output[position] = low = f"{name}/half"
                self.copies[name, self.element] = low
                self._cast(low, name, self.float)
            else:
                self.current[name] = self.element

    def _in_type(self, name: str, kind: int) -> str:
        """The value ``name`` in the type ``kind``; a Cast or a second constant makes it so."""
        if self.current[name] == kind and name not in self.constants:
            return name
        if (name, kind) not in self.copies:
            suffix = "fp32" if kind == self.float else "half"
            self.copies[name, kind] = f"{name}/{suffix}"
            if name not in self.constants:
                self._cast(name, f"{name}/{suffix}", kind)
        return self.copies[name, kind]

    def _cast(self, name: str, result: str, kind: int) -> None:
        import onnx

        label = f"cast {result}" if kind != self.float else f"cast {name} to fp32"
        self.nodes.append(onnx.helper.make_node("Cast", [name], [result], name=label, to=kind))

    def _attributes(self, node: Any) -> None:
        """Constants and types that stand in the node itself."""
        from onnx import helper, numpy_helper

        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == self.float:
                attribute.i = self.element
            elif attribute.HasField("t") and attribute.t.data_type == self.float:
                attribute.t.CopyFrom(rounded(attribute.t, self.element))
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values = attribute.floats or attribute.f
                tensor = numpy_helper.from_array(np.array(values, np.float32))
                attribute.CopyFrom(helper.make_attribute("value", rounded(tensor, self.element)))
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = rounded(numpy_helper.from_array(np.zeros(1, np.float32)), self.element)
            node.attribute.append(helper.make_attribute("value", zero))

    def _finish_constants(self) -> None:
        """Each constant in the types that are read; under its own name if there is just one."""
        kept = [t for t in self.graph.initializer if t.name not in self.constants]
        renamed = {}
        for name, tensor in self.constants.items():
            read = [kind for kind in (self.float, self.element) if (name, kind) in self.copies]
            for kind in read:
                version = rounded(tensor, kind)
                version.name = copy = self.copies[name, kind]
                if len(read) == 1:
                    version.name = renamed[copy] = name
                kept.append(version)
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        for node in self.graph.node:
            for position, name in enumerate(node.input):
                node.input[position] = renamed.get(name, name)


def rounded(tensor: Any, element: int) -> Any:
    """A float32 tensor in ``element``, each value to the nearest, ties to even.

    Raises MldrError for a value that the type does not hold: its node had to be an island.
    """
    from onnx import TensorProto, helper, numpy_helper

    if element == TensorProto.FLOAT:
        copy = TensorProto()
        copy.CopyFrom(tensor)
        return copy
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        low = values.astype(helper.tensor_dtype_to_np_dtype(element))
    if not np.isfinite(low.astype(np.float32)).all():
        raise MldrError(f"{tensor.name} holds {np.abs(values).max():.3g}, too large for 16 bits")
    return numpy_helper.from_array(low, tensor.name)
