"""Engines of TensorRT-RTX: built anywhere, for the compute capabilities that are named.

The library compiles the last part on the card, at the first run. It has no version-compatible
engines, and a timing cache is nothing to it: kernels are not measured at build time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundle.engine import AskedPrecision, Profile
from ...bundle.precisions import precision_named
from ...bundle.progress import Progress
from ...errors import MldrError
from ...runtimes.tensorrt_library import Library
from .asked_precision import asked_precision
from .builder import accepted, common_settings, serialised
from .engine_config import EngineConfig
from .parse import parse


@dataclass(frozen=True)
class RtxPlan:
    """A serialised engine, what it was built for, and what was asked of the builder."""

    content: bytes
    capabilities: tuple[str, ...]
    requested: AskedPrecision


def build_rtx_plan(
    library: Library,
    onnx: Path,
    precision: str,
    profile: Profile,
    config: EngineConfig,
    progress: Progress,
) -> RtxPlan:
    """Build the engine of ``onnx`` for what ``capabilities_for`` gives; needs no GPU.

    Raises MldrError with TensorRT-RTX's reason when it refuses.
    """
    capabilities = capabilities_for(precision, config)
    parsed = parse(library, onnx.read_bytes())
    if parsed is None:
        raise MldrError(f"{library} gives no builder on this machine")
    parsed = accepted(library, parsed, onnx.name)
    requested = asked_precision(precision, parsed.network)
    settings = common_settings(library, parsed.builder, config)
    _for_capabilities(library, settings, capabilities)
    plan = serialised(library, parsed, settings, profile, onnx.name, progress)
    return RtxPlan(plan, capabilities, requested)


def capabilities_for(precision: str, config: EngineConfig) -> tuple[str, ...]:
    """Those of ``config`` that compute in ``precision``. Raises MldrError where none does."""
    first = precision_named(precision).capability
    fitting = tuple(c for c in config.capabilities if float(c) >= first)
    if not fitting:
        listed = ", ".join(config.capabilities)
        text = f"GPUs of compute capability {listed} have no {precision}: it begins with {first}"
        raise MldrError(text)
    return fitting


def _for_capabilities(library: Library, settings: Any, capabilities: tuple[str, ...]) -> None:
    members = library.trt.ComputeCapability.__members__
    settings.num_compute_capabilities = len(capabilities)
    for k, capability in enumerate(capabilities):
        name = f"SM{capability.replace('.', '')}"
        if name not in members:
            raise MldrError(f"{library} builds for no compute capability {capability}")
        settings.set_compute_capability(members[name], k)
