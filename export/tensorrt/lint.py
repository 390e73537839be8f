"""What TensorRT would refuse in an ONNX graph, said before a build, with node names.

Needs no TensorRT: `export --target tensorrt` runs it anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...bundle.engine import Profile
from . import rules
from .graph import GraphView
from .operators import DATA_DEPENDENT, OPSETS, TYPES

_SHOWN = 5  # findings in the one line of a refusal


@dataclass(frozen=True)
class Finding:
    """One thing about one node (or the graph): an error keeps the engine from being built."""

    severity: Literal["error", "warning"]
    node: str
    operator: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.operator} {self.node}: {self.message}"


@dataclass(frozen=True)
class Lint:
    """Everything that was found in one file. True when nothing keeps TensorRT from taking it."""

    file: str
    nodes: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """What TensorRT would refuse."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def __bool__(self) -> bool:
        return not self.errors

    def __str__(self) -> str:
        counts = f"{len(self.errors)} errors, {len(self.findings) - len(self.errors)} warnings"
        head = f"lint {self.file} for TensorRT: {self.nodes} nodes, {counts}"
        return "\n".join([head, *(f"  {finding}" for finding in self.findings)])

    @property
    def refusal(self) -> str:
        """The errors on one line."""
        shown = "; ".join(f"{f.operator} {f.node}: {f.message}" for f in self.errors[:_SHOWN])
        more = len(self.errors) - _SHOWN
        return f"TensorRT cannot take {self.file}: {shown}" + (f"; {more} more" if more > 0 else "")


def lint_file(path: Path, profile: Profile) -> Lint:
    """``lint`` of the ONNX file ``path``."""
    import onnx

    return lint(onnx.load(str(path)), profile, path.name)


def lint(proto: Any, profile: Profile, file: str) -> Lint:
    """Check the model against the parser's operators, types and restrictions, and ``profile``."""
    view = GraphView(proto)
    found = [
        *_opset(view),
        *_ends(view, profile),
        *_domains(view),
        *_types(view),
        *_from(rules.ERRORS, "error", view),
        *_from(rules.WARNINGS, "warning", view),
    ]
    return Lint(file, len(view.nodes), tuple(found))


Rule = Callable[[GraphView], Iterator[tuple[Any, str]]]


def _from(
    listed: tuple[Rule, ...], severity: Literal["error", "warning"], view: GraphView
) -> Iterator[Finding]:
    for rule in listed:
        for node, message in rule(view):
            yield Finding(severity, named(node), node.op_type, message)


def named(node: Any) -> str:
    """The node's name, or what it makes where it has none."""
    return node.name or f"(makes {next(iter(node.output), '?')})"


def _opset(view: GraphView) -> Iterator[Finding]:
    if view.opset not in OPSETS:
        text = f"opset {view.opset}, TensorRT takes {OPSETS.start} to {OPSETS.stop - 1}"
        yield Finding("error", "(the model)", "Graph", text)


def _ends(view: GraphView, profile: Profile) -> Iterator[Finding]:
    """Inputs: float32, and no dynamic axis but the batch, which the profile covers."""
    graph = view.proto.graph
    inputs = [value for value in graph.input if value.name not in view.initializers]
    for value in [*inputs, *graph.output]:
        kind = view.types.get(value.name)
        if kind != "FLOAT":
            text = f"is {kind}, the runtime feeds and fetches FLOAT"
            yield Finding("error", value.name, "Graph", text)
    for value in inputs:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            fixed = dim.dim_value if dim.HasField("dim_value") else None
            if axis == 0 and fixed is not None and not profile.min == fixed == profile.max:
                text = (
                    f"the batch is fixed at {fixed}, the profile asks for {profile.min} to "
                    f"{profile.max}: export with a dynamic batch"
                )
                yield Finding("error", value.name, "Graph", text)
            elif axis > 0 and fixed is None:
                text = f"axis {axis} ({dim.dim_param or 'unknown'}) is dynamic and in no profile"
                yield Finding("error", value.name, "Graph", text)


def _domains(view: GraphView) -> Iterator[Finding]:
    for node in view.nodes:
        if (node.domain, node.op_type) in view.functions:
            continue
        if node.domain not in ("", "ai.onnx"):
            text = f"domain {node.domain} is not ONNX's own: TensorRT would need a plugin"
            yield Finding("error", named(node), node.op_type, text)
        elif node.op_type not in TYPES:
            text = "the operator is not supported"
            yield Finding("error", named(node), node.op_type, text)
        elif node.op_type in DATA_DEPENDENT:
            text = "its output size depends on the data: no CUDA graph can hold the engine"
            yield Finding("warning", named(node), node.op_type, text)


def _types(view: GraphView) -> Iterator[Finding]:
    for node in view.nodes:
        allowed = TYPES.get(node.op_type)
        if allowed is None or node.domain not in ("", "ai.onnx"):
            continue
        position = 1 if node.op_type == "Where" else 0  # Where's first input is its condition
        makes = node.op_type in ("Constant", "ConstantOfShape")
        name = node.output[0] if makes else (*node.input, "", "")[position]
        kind = view.types.get(name)
        if kind == "DOUBLE":
            text = f"{name} is DOUBLE, which TensorRT computes as FLOAT: cast it in the graph"
            yield Finding("error", named(node), node.op_type, text)
        elif kind is not None and kind not in allowed and not _shape_arithmetic(kind, name, view):
            text = f"{name} is {kind}, supported are {', '.join(sorted(allowed))}"
            yield Finding("error", named(node), node.op_type, text)


def _shape_arithmetic(kind: str, name: str, view: GraphView) -> bool:
    """Integers that are known at build time are folded away before types matter."""
    return kind in ("INT32", "INT64") and name in view.constants
