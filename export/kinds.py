"""The kinds of artifact that export can write: every precision as an ONNX file and as an engine."""

from __future__ import annotations

from importlib import import_module

from ..bundle.engine import FORMAT, RTX
from ..bundle.precisions import PRECISIONS
from .artifact_kind import ArtifactKind
from .export_config import ExportConfig
from .tensorrt.kind import run, writer

Key = tuple[str, str]  # (target, precision), as `format` and `precision` of a manifest's artifact


def _onnx(precision: str) -> ArtifactKind:
    """The ``KIND`` of the file in ``precision/`` that has its name."""
    file = import_module(f".precision.{precision.replace('-', '_')}", __package__)
    assert isinstance(file.KIND, ArtifactKind)
    return file.KIND


FIRST: Key = ("onnx", "fp32")
KINDS: dict[Key, ArtifactKind] = {("onnx", name): _onnx(name) for name in PRECISIONS}
# Each ONNX precision may become an engine.
KINDS |= {
    (FORMAT, name): ArtifactKind(
        writer(name), run, row.built_from, runtime="TensorRT", is_graph=False
    )
    for name, row in PRECISIONS.items()
}


def plan(config: ExportConfig) -> list[Key]:
    """What ``config`` asks for, each after what it is made from; the fp32 ONNX file always first.

    So the ONNX file that an engine was built from is always in the bundle: where another GPU or
    another version finds the engine unusable, it is built again from there.
    """
    keys: dict[Key, None] = {FIRST: None}
    for target in config.targets:
        for precision in config.precisions:
            if target == RTX:  # an engine that was not run is no artifact: tensorrt/rtx_engines.py
                keys["onnx", PRECISIONS[precision].built_from] = None
                continue
            keys["onnx", KINDS[target, precision].source] = None
            keys[target, precision] = None
    return list(keys)
