"""The kinds of artifact that export can write: every target in the precisions that it has."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ..bundle.engine import FORMAT, RTX
from ..bundle.precisions import PRECISIONS
from ..bundle.targets import TARGETS
from .artifact_kind import ArtifactKind
from .executorch_program import EXECUTORCH
from .export_config import ExportConfig
from .litert_file import LITERT
from .openvino_ir import ir_kind
from .tensorrt.kind import engine_kind

Key = tuple[str, str]  # (target, precision), as `format` and `precision` of a manifest's artifact


def _onnx(precision: str) -> ArtifactKind:
    """The ``KIND`` of the file in ``precision/`` that has its name."""
    file = import_module(f".precision.{precision.replace('-', '_')}", __package__)
    assert isinstance(file.KIND, ArtifactKind)
    return file.KIND


PHONES = {form.target: form for form in (EXECUTORCH, LITERT)}
FIRST: Key = ("onnx", "fp32")
# The kind of a precision, by target. A TensorRT-RTX engine is not run, so it is none of them.
_KINDS: dict[str, Callable[[str], ArtifactKind]] = {
    "onnx": _onnx,
    FORMAT: engine_kind,
    "openvino": ir_kind,
    **{target: form.kind for target, form in PHONES.items()},
}
KINDS: dict[Key, ArtifactKind] = {
    (target, precision): kind_of(precision)
    for target, kind_of in _KINDS.items()
    for precision in TARGETS[target].precisions
}


def plan(config: ExportConfig) -> list[Key]:
    """What ``config`` asks for, each after what it is made from; the fp32 ONNX file always first.

    So the ONNX file that an engine was built from is always in the bundle: where another GPU or
    another version finds the engine unusable, it is built again from there.
    """
    keys: dict[Key, None] = {FIRST: None}
    for target, precision in config.pairs:
        if target == RTX:  # an engine that was not run is no artifact: tensorrt/rtx_engines.py
            keys["onnx", PRECISIONS[precision].built_from] = None
            continue
        keys["onnx", KINDS[target, precision].source] = None
        keys[target, precision] = None
    return list(keys)
