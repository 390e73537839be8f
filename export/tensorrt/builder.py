"""ONNX file to engine: strongly typed network, one profile, timing cache, progress.

See docs/design.md, section TensorRT.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bundle.engine import AskedPrecision, Machine, Profile
from ...bundle.progress import Progress
from ...errors import MldrError, Unavailable
from ...runtimes import cuda
from ...runtimes.engine_loading import load_engine
from ...runtimes.tensorrt_library import CLASSIC, Library
from ...runtimes.tensorrt_logger import complaint, quiet_logger
from . import timing_cache
from .asked_precision import asked_precision
from .engine_config import EngineConfig
from .monitor import build_monitor
from .parse import Parsed, new_builder, parse_with

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class Plan:
    """A serialised engine, what was asked of the builder, and the inspector's layers (JSON)."""

    content: bytes
    layers: str
    requested: AskedPrecision


def build_plan(
    onnx: Path,
    precision: str,
    profile: Profile,
    machine: Machine,
    config: EngineConfig,
    progress: Progress,
) -> Plan:
    """Build the engine of ``onnx`` on ``machine``, the GPU of ``config.device``.

    Raises MldrError with TensorRT's reason when it refuses, Unavailable without a usable GPU.
    """
    import tensorrt as trt

    library = Library(CLASSIC, trt)
    cuda.use(config.device)
    logger = quiet_logger(trt)
    builder = new_builder(library, logger)
    if builder is None:
        raise Unavailable(f"TensorRT finds no usable GPU: {complaint(logger)}")
    parsed = accepted(library, parse_with(library, builder, logger, onnx.read_bytes()), onnx.name)
    requested = asked_precision(precision, parsed.network)
    settings = common_settings(library, builder, config)
    _reach(settings, config)
    file = timing_cache.cache_file(machine) if config.timing_cache else None
    timing_cache.attach(settings, file)
    plan = serialised(library, parsed, settings, profile, onnx.name, progress)
    if file is not None:
        timing_cache.store(settings, file)
    return Plan(plan, _layers(plan, logger, config, onnx), requested)


def accepted(library: Library, parsed: Parsed, file: str) -> Parsed:
    """``parsed``. Raises MldrError with the first nodes where the parser refused the graph."""
    if not parsed:
        reasons = "; ".join(str(refusal) for refusal in parsed.refusals[:3])
        raise MldrError(f"{library.name}'s parser refuses {file}: {reasons}")
    return parsed


def common_settings(
    library: Library, builder: trt.Builder, config: EngineConfig
) -> trt.IBuilderConfig:
    """What holds for every engine: fp32 means fp32, layers with their types, effort, scratch."""
    trt = library.trt
    settings = builder.create_builder_config()
    # TF32 keeps 10 bits of a product: an engine called fp32 has to compute in fp32.
    settings.clear_flag(trt.BuilderFlag.TF32)
    settings.builder_optimization_level = config.effort
    settings.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the proof needs the types
    if config.workspace_mib:
        limit = config.workspace_mib << 20
        settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
    return settings


def _reach(settings: trt.IBuilderConfig, config: EngineConfig) -> None:
    """Other GPUs and versions that the engine must run on."""
    import tensorrt as trt

    if config.hardware == "same-compute-capability":
        level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
        settings.hardware_compatibility_level = level
    elif config.hardware == "ampere-plus":
        settings.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if config.version_compatible:
        settings.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def serialised(
    library: Library,
    parsed: Parsed,
    settings: trt.IBuilderConfig,
    profile: Profile,
    file: str,
    progress: Progress,
) -> bytes:
    """Build. Raises MldrError with the library's reason, and again what the progress bar raised."""
    builder: trt.Builder = parsed.builder
    settings.add_optimization_profile(_profile(builder, parsed.network, profile))
    monitor = build_monitor(library.trt, progress)
    settings.progress_monitor = monitor
    with _stdout_for_results():
        content = builder.build_serialized_network(parsed.network, settings)
    if monitor.raised is not None:
        raise monitor.raised
    if content is None:
        raise MldrError(f"{library.name} does not build {file}: {complaint(parsed.logger)}")
    return bytes(content)


@contextmanager
def _stdout_for_results() -> Iterator[None]:
    """What the library's own code prints to standard output goes to standard error instead."""
    sys.stdout.flush()
    try:
        descriptor = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # a service without standard streams
        yield
        return
    try:
        yield
    finally:
        os.dup2(descriptor, 1)
        os.close(descriptor)


def _profile(
    builder: trt.Builder, network: trt.INetworkDefinition, profile: Profile
) -> trt.IOptimizationProfile:
    shapes = builder.create_optimization_profile()
    for k in range(network.num_inputs):
        tensor: trt.ITensor = network.get_input(k)
        image = tuple(tensor.shape)[1:]
        smallest, tuned, largest = ((b, *image) for b in (profile.min, profile.opt, profile.max))
        shapes.set_shape(tensor.name, smallest, tuned, largest)
    return shapes


def _layers(plan: bytes, logger: Any, config: EngineConfig, onnx: Path) -> str:
    """The inspector's JSON of the engine just built."""
    import tensorrt as trt

    _runtime, loaded = load_engine(plan, logger, host_code=config.version_compatible)
    engine: trt.ICudaEngine = loaded
    if engine is None:
        raise MldrError(f"the engine of {onnx.name} does not load: {complaint(logger)}")
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
