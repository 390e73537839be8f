"""An ONNX graph as the lint reads it: constants, types, who makes and who takes a value."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MODULES = "pkg.torch.onnx.name_scopes"  # the exporter's note: modules around a node


@dataclass(frozen=True)
class GraphView:
    """The main graph of a model, subgraphs and functions laid flat into ``nodes``."""

    proto: Any

    @cached_property
    def nodes(self) -> list[Any]:
        """Every node, those of branches, loops and model-local functions too."""
        inside = [node for function in self.proto.functions for node in _all(function.node)]
        return [*_all(self.proto.graph.node), *inside]

    @cached_property
    def opset(self) -> int:
        """Version of the standard operator set; 0 where the model imports none."""
        versions = [o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx")]
        return max(versions, default=0)

    @cached_property
    def functions(self) -> set[tuple[str, str]]:
        """Domain and name of each model-local function."""
        return {(function.domain, function.name) for function in self.proto.functions}

    @cached_property
    def producer(self) -> dict[str, Any]:
        """The node that makes a value."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[Any]]:
        """The nodes that take a value."""
        readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for name in filter(None, node.input):
                readers[name].append(node)
        return readers

    @cached_property
    def initializers(self) -> dict[str, Any]:
        """Stored tensors of the main graph."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    @cached_property
    def constants(self) -> set[str]:
        """Values that are known when the engine is built: stored, or computed from stored ones."""
        names = set(self.initializers)
        for node in self.nodes:
            inputs = [name for name in node.input if name]
            if node.op_type == "Constant" or (inputs and names.issuperset(inputs)):
                names.update(node.output)
        return names

    @cached_property
    def types(self) -> dict[str, str]:
        """Data type of each value, as far as ONNX's shape inference tells it."""
        import onnx

        inferred = onnx.shape_inference.infer_shapes(self.proto).graph
        name = onnx.TensorProto.DataType.Name
        values = [*inferred.input, *inferred.value_info, *inferred.output]
        types = {
            value.name: name(value.type.tensor_type.elem_type)
            for value in values
            if value.type.HasField("tensor_type")
        }
        return types | {t.name: name(t.data_type) for t in self.initializers.values()}

    @cached_property
    def modules(self) -> dict[str, str]:
        """The student's module that each node, by its name, came from; absent where unknown."""
        modules = {}
        for node in self.nodes:
            noted = next((p.value for p in node.metadata_props if p.key == _MODULES), "[]")
            try:
                scopes = [scope for scope in ast.literal_eval(noted)[:-1] if scope]
            except (ValueError, SyntaxError, TypeError):
                continue
            if scopes:
                modules[named(node)] = str(scopes[-1])
        return modules

    def with_module(self, complaint: str) -> str:
        """``complaint`` and the module of the first node that it names, where that is known."""
        words = set(re.split(r"[^\w./]+", complaint))
        for name, module in self.modules.items():
            if name in words:
                return f"{complaint} (node {name}, module {module})"
        return complaint

    def main_type(self, node: Any) -> str | None:
        """Type of what the operator works on; None: unknown, or not of the standard."""
        if node.domain not in ("", "ai.onnx"):
            return None
        position = 1 if node.op_type == "Where" else 0  # Where's first input is its condition
        makes = node.op_type in ("Constant", "ConstantOfShape")
        name = node.output[0] if makes else (*node.input, "", "")[position]
        kind = self.types.get(name)
        # Integers that are known at build time are folded away before types matter.
        return None if kind in ("INT32", "INT64") and name in self.constants else kind

    def value(self, name: str) -> NDArray[Any] | None:
        """The stored tensor ``name``, also out of a Constant node; None: computed or huge."""
        from onnx import numpy_helper

        tensor = self.initializers.get(name)
        maker = self.producer.get(name)
        if tensor is None and maker is not None and maker.op_type == "Constant":
            tensor = next((a.t for a in maker.attribute if a.name == "value"), None)
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))


def named(node: Any) -> str:
    """The node's name, or what it makes where it has none."""
    return node.name or f"(makes {next(iter(node.output), '?')})"


def attribute(node: Any, name: str, default: Any) -> Any:
    """An attribute's value, or ``default`` where the node does not state it."""
    import onnx

    for stated in node.attribute:
        if stated.name == name:
            value = onnx.helper.get_attribute_value(stated)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _all(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for stated in node.attribute:
            graphs = [stated.g] if stated.HasField("g") else [*stated.graphs]
            for graph in graphs:
                yield from _all(graph.node)
