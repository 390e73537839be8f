"""Engines of TensorRT-RTX: built anywhere, for the compute capabilities that are named.

The library compiles the last part on the card, at the first run. It has no version-compatible
engines, and a timing cache is nothing to it: kernels are not measured at build time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundle.engine import AskedPrecision, Profile
from ...bundle.progress import Progress
from ...errors import MldrError
from ...runtimes.tensorrt_library import Library
from .asked import asked_precision
from .builder import accepted, common_settings, serialised
from .config import EngineConfig
from .parse import parse

_FIRST_FP8 = 8.9  # compute capability


@dataclass(frozen=True)
class RtxPlan:
    """A serialised engine, what it was built for, and what was asked of the builder."""

    content: bytes
    capabilities: tuple[str, ...]
    asked: AskedPrecision


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
    made = parse(library, onnx.read_bytes())
    if made is None:
        raise MldrError(f"{library} gives no builder on this machine")
    parsed = accepted(library, made, onnx.name)
    asked = asked_precision(precision, parsed.network)
    settings = common_settings(library, parsed.builder, config)
    _for_capabilities(library, settings, capabilities)
    plan = serialised(library, parsed, settings, profile, onnx.name, progress)
    return RtxPlan(plan, capabilities, asked)


def capabilities_for(precision: str, config: EngineConfig) -> tuple[str, ...]:
    """Those of ``config`` that compute in ``precision``: fp8 begins with 8.9.

    Raises MldrError where none does.
    """
    fitting = config.capabilities
    if precision == "fp8":
        fitting = tuple(c for c in fitting if float(c) >= _FIRST_FP8)
    if not fitting:
        listed = ", ".join(config.capabilities)
        raise MldrError(f"GPUs of compute capability {listed} have no fp8: it begins with 8.9")
    return fitting


def _for_capabilities(library: Library, settings: Any, capabilities: tuple[str, ...]) -> None:
    known = library.trt.ComputeCapability.__members__
    settings.num_compute_capabilities = len(capabilities)
    for k, capability in enumerate(capabilities):
        name = f"SM{capability.replace('.', '')}"
        if name not in known:
            raise MldrError(f"{library} builds for no compute capability {capability}")
        settings.set_compute_capability(known[name], k)
