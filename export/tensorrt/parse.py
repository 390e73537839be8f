"""An ONNX file in the hands of a TensorRT library's own parser (classic or RTX)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...runtimes.tensorrt_library import Library
from ...runtimes.tensorrt_logger import complaint, quiet_logger

if TYPE_CHECKING:
    import tensorrt as trt

_FAILED = "Assertion failed: "
_WORDS = (
    re.compile(r'&& "(.+?)"'),  # condition && "words"
    re.compile(r"Error \((.+?)\.? In \w+ at "),  # function: Error Code 4: ... Error (words In f at
    re.compile(r": (?=[A-Z])(.+)"),  # condition: Words
)


@dataclass(frozen=True)
class Refusal:
    """What the parser says of one node."""

    operator: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} {self.node}: {self.reason}"


@dataclass(frozen=True)
class Parsed:
    """A strongly typed network, or why there is none. True when the parser took the whole graph.

    ``builder``, ``logger`` and ``parser`` must live as long as ``network``.
    """

    network: Any
    builder: Any
    logger: Any
    parser: Any
    refusals: tuple[Refusal, ...]
    warnings: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.refusals


def new_builder(library: Library, logger: Any) -> Any:
    """The library's builder; None where it has none (classic TensorRT without a usable GPU)."""
    trt = library.trt
    try:
        return trt.Builder(logger)
    except (TypeError, RuntimeError):  # what the bindings raise where CUDA fails
        return None


def parse(library: Library, onnx: bytes) -> Parsed | None:
    """The network of the model ``onnx``, as the library's parser makes it; None: no builder."""
    trt = library.trt
    logger = quiet_logger(trt)
    builder = new_builder(library, logger)
    return None if builder is None else parse_with(library, builder, logger, onnx)


def parse_with(library: Library, builder: trt.Builder, logger: Any, onnx: bytes) -> Parsed:
    """As :func:`parse`, with a builder and its logger given."""
    trt = library.trt
    # 10.x would choose precisions itself without it; 11 knows no other way and ignores the flag.
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    refusals: list[Refusal] = []
    if not parser.parse(onnx):
        refusals = [_refusal(parser.get_error(k)) for k in range(parser.num_errors)]
        refusals = refusals or [Refusal("Graph", "(the model)", complaint(logger))]
    distinct = tuple(dict.fromkeys(refusals))  # checks of the parser repeat themselves
    return Parsed(network, builder, logger, parser, distinct, tuple(dict.fromkeys(logger.warnings)))


def _refusal(error: trt.ParserError) -> Refusal:
    operator, node = error.node_operator(), error.node_name()
    reason = " ".join(error.desc().split()).removeprefix(f"Invalid Node - {node}").strip()
    return Refusal(operator, node, _words(reason)[:300])


def _words(reason: str) -> str:
    """What an assertion of the parser says to people, without its C++."""
    failed = reason.removeprefix(_FAILED)
    if failed == "false":
        return "the operator is not supported"
    for pattern in _WORDS if failed != reason else _WORDS[:2]:
        match = pattern.search(failed)
        if match is not None:
            return match.group(1)
    return failed or "the parser takes it in no such form, and tells no reason"
