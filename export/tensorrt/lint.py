"""What TensorRT would refuse in an ONNX graph, said before a build, with nodes and modules.

The library's own parser says it where one can be asked: classic TensorRT's on a machine with a GPU,
TensorRT-RTX's anywhere. Beside it stand the few rules for what no parser says (``rules.py``), and
for an engine of classic TensorRT that RTX's parser spoke of, where the two differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...bundle.engine import Profile
from ...runtimes import tensorrt_library as library
from ...runtimes.tensorrt_library import RTX_INSTALL, Library
from . import rules
from .differences import NEWEST_OPSET, classic
from .graph_view import GraphView, named
from .parse import Parsed, parse

_LISTED = 5  # findings in the one line of a refusal
Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class LintFinding:
    """One thing about one node (or the graph): an error keeps the engine from being built."""

    severity: Severity
    node: str
    operator: str
    message: str
    module: str | None = None  # of the student, where the graph tells it

    @property
    def place(self) -> str:
        """Operator, node and module."""
        module = f" (module {self.module})" if self.module else ""
        return f"{self.operator} {self.node}{module}"

    def __str__(self) -> str:
        return f"{self.severity}: {self.place}: {self.message}"


@dataclass(frozen=True)
class Lint:
    """Everything that was found in one file. True when nothing keeps TensorRT from taking it."""

    file: str
    nodes: int
    findings: tuple[LintFinding, ...]
    parser: str | None  # whose parser spoke, name and version; None: no library is here

    @property
    def errors(self) -> list[LintFinding]:
        """What TensorRT would refuse."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def __bool__(self) -> bool:
        return not self.errors

    def __str__(self) -> str:
        counts = f"{len(self.errors)} errors, {len(self.findings) - len(self.errors)} warnings"
        by = f"by {self.parser}'s parser" if self.parser else "by our own rules only"
        head = f"lint {self.file} {by}: {self.nodes} nodes, {counts}"
        if self.parser is None:
            head += f" (not linted by TensorRT's parser, which is not here: {RTX_INSTALL})"
        return "\n".join([head, *(f"  {finding}" for finding in self.findings)])

    @property
    def refusal(self) -> str:
        """The errors on one line."""
        errors = "; ".join(f"{f.place}: {f.message}" for f in self.errors[:_LISTED])
        unlisted = len(self.errors) - _LISTED
        further = f"; {unlisted} more" if unlisted > 0 else ""
        return f"TensorRT cannot take {self.file}: {errors}{further}"


def lint_file(path: Path, profile: Profile, *, rtx: bool = False) -> Lint:
    """``lint`` of the ONNX file ``path``."""
    import onnx

    return lint(onnx.load(str(path)), profile, path.name, rtx=rtx)


def lint(proto: Any, profile: Profile, file: str, *, rtx: bool = False) -> Lint:
    """Ask the library's parser about the model, and hold it against our own rules and ``profile``.

    ``rtx``: the engine is for TensorRT-RTX, not for classic TensorRT.
    """
    view = GraphView(proto)
    speaker, parsed = _ask(proto, rtx)
    findings = [] if parsed is None else list(_parser(view, parsed))
    findings += _from(rules.ends(view, profile), "error", view)
    findings += _from(rules.silent(view), "error", view)
    if not rtx and (speaker is None or speaker.name != library.CLASSIC):
        findings += _differences(view)
    findings += _from(rules.decomposed_normalisation(view), "warning", view)
    findings += _from(rules.random(view), "warning", view)
    name = None if parsed is None else str(speaker)
    return Lint(file, len(view.nodes), tuple(findings), name)


def _ask(proto: Any, rtx: bool) -> tuple[Library | None, Parsed | None]:
    """The first library whose parser can be asked here, and what it made of the model."""
    for find in (library.rtx,) if rtx else (library.classic, library.rtx):
        speaker = find()
        parsed = None if speaker is None else parse(speaker, proto.SerializeToString())
        if parsed is not None:
            return speaker, parsed
    return None, None


def _parser(view: GraphView, parsed: Parsed) -> Iterator[LintFinding]:
    for refusal in parsed.refusals:
        module = view.modules.get(refusal.node)
        yield LintFinding("error", refusal.node, refusal.operator, refusal.reason, module)
    for warning in parsed.warnings:
        yield LintFinding("warning", "(the model)", "Graph", warning[:300])


def _from(
    complaints: Iterator[rules.Complaint], severity: Severity, view: GraphView
) -> list[LintFinding]:
    return [LintFinding(severity, n, op, text, view.modules.get(n)) for n, op, text in complaints]


def _differences(view: GraphView) -> Iterator[LintFinding]:
    if view.opset > NEWEST_OPSET:
        text = f"opset {view.opset}, classic TensorRT takes up to {NEWEST_OPSET}"
        yield LintFinding("error", "(the model)", "Graph", text)
    for node, text in classic(view):
        name = named(node)
        yield LintFinding("error", name, node.op_type, text, view.modules.get(name))
