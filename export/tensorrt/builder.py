"""ONNX file to engine: strongly typed network, one profile, timing cache, progress (DESIGN 8)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bundle.engine import Machine, Profile
from ...bundle.progress import Progress
from ...engine import cuda
from ...engine.logger import complaint, quiet_logger
from ...errors import MldrError, Unavailable
from . import timing_cache
from .config import EngineConfig
from .monitor import build_monitor

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class Plan:
    """A serialised engine, and what TensorRT's inspector tells of its layers (JSON)."""

    content: bytes
    layers: str


def build_plan(
    onnx: Path, profile: Profile, machine: Machine, config: EngineConfig, progress: Progress
) -> Plan:
    """Build the engine of ``onnx`` on ``machine``, the GPU of ``config.device``.

    Raises MldrError with TensorRT's reason when it refuses, Unavailable without a usable GPU.
    """
    import tensorrt as trt

    cuda.use(config.device)
    logger = quiet_logger()
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # what the bindings raise where CUDA fails
        raise Unavailable(f"TensorRT finds no usable GPU: {complaint(logger)}") from error
    network = _network(builder, onnx, logger)
    settings = _settings(builder, config)
    settings.add_optimization_profile(_profile(builder, network, profile))
    file = timing_cache.cache_file(machine) if config.timing_cache else None
    timing_cache.attach(settings, file)
    monitor = build_monitor(progress)
    settings.progress_monitor = monitor
    content = builder.build_serialized_network(network, settings)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if content is None:
        raise MldrError(f"TensorRT does not build {onnx.name}: {complaint(logger)}")
    if file is not None:
        timing_cache.store(settings, file)
    plan = bytes(content)
    return Plan(plan, _layers(plan, logger, config, onnx))


def _network(builder: trt.Builder, onnx: Path, logger: Any) -> trt.INetworkDefinition:
    import tensorrt as trt

    # 10.x would choose precisions itself without it; 11 knows no other way and ignores the flag.
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reasons = [_reason(parser.get_error(k)) for k in range(parser.num_errors)]
        told = "; ".join(reasons[:3]) or complaint(logger)
        raise MldrError(f"TensorRT's parser refuses {onnx.name}: {told}")
    return network


def _reason(error: trt.ParserError) -> str:
    what = " ".join(error.desc().split())[:200]
    return f"{error.node_operator()} {error.node_name()}: {what}"


def _settings(builder: trt.Builder, config: EngineConfig) -> trt.IBuilderConfig:
    import tensorrt as trt

    settings = builder.create_builder_config()
    # TF32 keeps 10 bits of a product: an engine called fp32 has to compute in fp32.
    settings.clear_flag(trt.BuilderFlag.TF32)
    settings.builder_optimization_level = config.effort
    settings.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the proof needs the types
    if config.workspace_mib:
        limit = config.workspace_mib << 20
        settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
    if config.hardware == "same-compute-capability":
        level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
        settings.hardware_compatibility_level = level
    elif config.hardware == "ampere-plus":
        settings.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if config.version_compatible:
        settings.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    return settings


def _profile(
    builder: trt.Builder, network: trt.INetworkDefinition, profile: Profile
) -> trt.IOptimizationProfile:
    shapes = builder.create_optimization_profile()
    for k in range(network.num_inputs):
        tensor: trt.ITensor = network.get_input(k)
        image = tuple(tensor.shape)[1:]
        least, tuned, most = ((b, *image) for b in (profile.min, profile.opt, profile.max))
        shapes.set_shape(tensor.name, least, tuned, most)
    return shapes


def _layers(plan: bytes, logger: Any, config: EngineConfig, onnx: Path) -> str:
    """The inspector's JSON of the engine just built."""
    import tensorrt as trt

    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = config.version_compatible
    engine: trt.ICudaEngine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise MldrError(f"the engine of {onnx.name} does not load: {complaint(logger)}")
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
