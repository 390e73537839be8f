"""A DOUBLE of the ``tensorrt`` module: ONNX Runtime computes, nothing of NVIDIA's is involved.

It has the names and arguments of the real bindings (``test_double.py`` holds it against them) and
the behaviour that their documentation states, as far as our code leans on it. What passes here
shows our flow, not TensorRT's: tests/gpu runs the real one where it exists.
"""

from __future__ import annotations

import ctypes
import enum
import json
import weakref
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime

_MAGIC = b"DOUBLE-ENGINE\n"


class BuilderFlag(enum.IntEnum):
    TF32 = 0
    VERSION_COMPATIBLE = 1


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class HardwareCompatibilityLevel(enum.IntEnum):
    NONE = 0
    AMPERE_PLUS = 1
    SAME_COMPUTE_CAPABILITY = 2


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY = 0
    DETAILED = 2


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class LayerInformationFormat(enum.IntEnum):
    JSON = 1


class TensorIOMode(enum.IntEnum):
    INPUT = 1
    OUTPUT = 2


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BF16 = 7


class LayerType(enum.IntEnum):
    CONVOLUTION = 0
    MATRIX_MULTIPLY = 13
    IDENTITY = 26
    DEQUANTIZE = 43


class ExecutionContextAllocationStrategy(enum.IntEnum):
    STATIC = 0
    USER_MANAGED = 2


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None: ...


class IProfiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class IHostMemory(bytes):
    pass


class ITimingCache:
    """Entries are node names; ``measured`` counts what had to be timed."""

    def __init__(self, device: str, entries: set[str]) -> None:
        self._device, self._entries = device, entries

    def serialize(self) -> IHostMemory:
        content = {"device": self._device, "entries": sorted(self._entries)}
        return IHostMemory(json.dumps(content).encode())

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if input_cache._device != self._device and not ignore_mismatch:
            return False
        self._entries |= input_cache._entries
        return True


class ParserError:
    def __init__(self, node: Any) -> None:
        self._node = node

    def desc(self) -> str:
        return "no importer\nregistered"

    def node_name(self) -> str:
        return str(self._node.name)

    def node_operator(self) -> str:
        return str(self._node.op_type)


class ITensor:
    def __init__(self, name: str, element: int, dims: Any) -> None:
        self.name = name
        self.dtype = _ELEMENTS.get(element, DataType.INT32)
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)


class ILayer:
    def __init__(self, node: Any, types: dict[str, int]) -> None:
        self._node, self._types = node, types
        self.type = _LAYERS.get(node.op_type, LayerType.IDENTITY)
        self.num_inputs, self.num_outputs = len(node.input), len(node.output)

    def get_input(self, index: int) -> ITensor:
        return self._tensor(self._node.input[index])

    def get_output(self, index: int) -> ITensor:
        return self._tensor(self._node.output[index])

    def _tensor(self, name: str) -> ITensor:
        return ITensor(name, self._types.get(name, 0), [])


_ELEMENTS = {1: DataType.FLOAT, 10: DataType.HALF, 16: DataType.BF16, 3: DataType.INT8}
_LAYERS = {
    "Conv": LayerType.CONVOLUTION,
    "Gemm": LayerType.MATRIX_MULTIPLY,
    "MatMul": LayerType.MATRIX_MULTIPLY,
    "DequantizeLinear": LayerType.DEQUANTIZE,
}


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self._flags, self._proto = flags, onnx.ModelProto()

    @property
    def num_inputs(self) -> int:
        return len(self._proto.graph.input)

    def get_input(self, index: int) -> ITensor:
        value = self._proto.graph.input[index]
        kind = value.type.tensor_type
        return ITensor(value.name, kind.elem_type, kind.shape.dim)

    @property
    def num_layers(self) -> int:
        return len(self._proto.graph.node)

    def get_layer(self, index: int) -> ILayer:
        return ILayer(self._proto.graph.node[index], _types(self._proto))


def _types(proto: Any) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = (min, opt, max)


class OnnxParser:
    refused: str | None = None  # an operator that a test wants refused

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._errors = network, []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        proto = onnx.load_from_string(model)
        self._errors = [ParserError(n) for n in proto.graph.node if n.op_type == self.refused]
        self._network._proto.CopyFrom(proto)
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IBuilderConfig:
    def __init__(self, machine: FakeTensorRT) -> None:
        self._machine = machine
        self._flags = {BuilderFlag.TF32}  # on by default, as in the real one
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None
        self._pools: dict[MemoryPoolType, int] = {}
        self.builder_optimization_level = 3
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.progress_monitor: IProgressMonitor | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        if not serialized_timing_cache:
            return ITimingCache(self._machine.device, set())
        try:
            content = json.loads(serialized_timing_cache)
        except ValueError:
            return None
        return ITimingCache(content["device"], set(content["entries"]))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._device != self._machine.device and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger, self._machine = logger, FakeTensorRT.current

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._machine)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        machine, proto = self._machine, network._proto
        machine.last = (network, config)
        if machine.fails:
            self._logger.log(ILogger.Severity.ERROR, machine.fails)
            return None
        nodes = {node.name for node in proto.graph.node}
        assert config._cache is not None
        machine.measured = len(nodes - config._cache._entries)
        if not _report(config.progress_monitor):
            return None
        config._cache._entries |= nodes
        typed = network._flags & (1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        detailed = config.profiling_verbosity == ProfilingVerbosity.DETAILED
        head = {
            "version": machine.__version__,
            "device": machine.device,
            "compatible": BuilderFlag.VERSION_COMPATIBLE in config._flags,
            "hardware": int(config.hardware_compatibility_level),
            "profile": config._profiles[0]._shapes,
            "layers": machine.layers(proto, bool(typed)) if detailed else ["a", "b"],
        }
        content = json.dumps(head).encode() + b"\n" + proto.SerializeToString()
        return IHostMemory(_MAGIC + content)


def _report(monitor: IProgressMonitor | None) -> bool:
    """Two phases, one inside the other; False when the monitor stops the build."""
    if monitor is None:
        return True
    monitor.phase_start("Building Engine", None, 3)
    monitor.phase_start("Timing kernels", "Building Engine", 2)
    going = [monitor.step_complete("Timing kernels", 0), monitor.step_complete("Timing kernels", 1)]
    monitor.phase_finish("Timing kernels")
    going += [monitor.step_complete("Building Engine", step) for step in range(3)]
    monitor.phase_finish("Building Engine")
    return all(going)


class EngineInspector:
    def __init__(self, layers: list[Any]) -> None:
        self._layers = layers

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        return json.dumps({"Layers": self._layers, "Bindings": []})


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, managed: bool) -> None:
        self._engine, self._managed = engine, managed
        self._scratch = 0
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._revision = 0
        self._profiler: Callable[[], IProfiler | None] = lambda: None

    @property
    def profiler(self) -> IProfiler | None:
        return self._profiler()

    @profiler.setter
    def profiler(self, profiler: IProfiler) -> None:
        self._profiler = weakref.ref(profiler)  # not kept: whoever sets it must

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 16 == 0
        self._scratch = size

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine._profile[name]
        fits = all(lo <= s <= hi for lo, s, hi in zip(least, shape, most, strict=True))
        self._shape = tuple(shape) if fits else None
        self._revision += 1  # graphs recorded before are void
        return fits

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        self._revision += 1
        return memory != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine = self._engine
        ready = self._shape is not None and len(self._addresses) == 2
        if not ready or (self._managed and self._scratch < engine.device_memory_size_v2):
            engine._logger.log(ILogger.Severity.ERROR, "not everything is set")
            return False
        shape, revision = self._shape, self._revision
        assert shape is not None

        def compute() -> None:
            assert revision == self._revision, "a recorded graph of a context that has changed"
            source = self._addresses[engine._input]
            count = int(np.prod(shape))
            inputs = np.ctypeslib.as_array((ctypes.c_float * count).from_address(source))
            (logits,) = engine._session.run(None, {engine._input: inputs.reshape(shape)})
            target = self._addresses[engine._output]
            ctypes.memmove(target, np.ascontiguousarray(logits).ctypes.data, logits.nbytes)

        cuda = engine._machine.cuda
        cuda.enqueue(stream_handle, compute)
        if self.profiler is not None and stream_handle not in cuda.capturing:
            for number, layer in enumerate(engine._head["layers"]):
                self.profiler.report_layer_time(layer["Name"], 0.25 * (number + 1))
        return True


class ICudaEngine:
    def __init__(self, machine: FakeTensorRT, head: Any, proto: bytes, logger: ILogger) -> None:
        self._machine, self._head, self._logger = machine, head, logger
        self._profile = head["profile"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            proto, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    num_io_tensors = 2
    device_memory_size_v2 = 4096

    def get_tensor_name(self, index: int) -> str:
        return str((self._input, self._output)[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == self._input else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        value = (self._session.get_inputs() + self._session.get_outputs())[name == self._output]
        return tuple(side if isinstance(side, int) else -1 for side in value.shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._profile[name]]

    def create_execution_context(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
    ) -> IExecutionContext:
        managed = strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        return IExecutionContext(self, managed)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self._head["layers"])


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger, self._machine = logger, FakeTensorRT.current
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._machine.loaded += 1
        if not serialized_engine.startswith(_MAGIC):
            return self._refuse("magic tag does not match")
        text, _, proto = serialized_engine.removeprefix(_MAGIC).partition(b"\n")
        head = json.loads(text)
        if head["compatible"] and not self.engine_host_code_allowed:
            return self._refuse("engine contains host code, which is not allowed")
        if not head["compatible"] and head["version"] != self._machine.__version__:
            return self._refuse("the engine was built by another version of TensorRT")
        if head["hardware"] == 0 and head["device"] != self._machine.device:
            return self._refuse("the engine was built for another device")
        return ICudaEngine(self._machine, head, proto, self._logger)

    def _refuse(self, reason: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, reason)


class FakeTensorRT(ModuleType):
    """The module; also what a test sets and reads."""

    current: FakeTensorRT

    def __init__(self, cuda: Any) -> None:
        super().__init__("tensorrt")
        self.__spec__ = ModuleSpec("tensorrt", None)  # it is asked for before it is imported
        self.__version__ = "10.16.1.11"
        self.cuda = cuda
        self.fails: str | None = None  # what a build complains of
        self.silently_fp32 = False
        self.measured = self.loaded = 0
        self.last: tuple[INetworkDefinition, IBuilderConfig] | None = None
        public = {k: v for k, v in globals().items() if isinstance(v, type) and k in NAMES}
        self.__dict__.update(public)
        FakeTensorRT.current = self

    @property
    def device(self) -> str:
        return f"{self.cuda.gpu} {self.cuda.capability}"

    def layers(self, proto: Any, typed: bool) -> list[dict[str, Any]]:
        """One layer a node, in the words of the inspector of 10.x or of 11.x."""
        types = _types(proto)
        words = {1: "Float", 10: "Half", 16: "BFloat16", 3: "Int8", 7: "Int64"}
        found = []
        for node in proto.graph.node:
            inputs = []
            for name in filter(None, node.input):
                kind = words.get(types.get(name, 0), "Unknown")
                if self.silently_fp32 or (not typed and kind == "Half"):
                    kind = "Float"
                inputs.append({"Name": name, **self._told(kind)})
            kind = {"Conv": "CaskConvolution", "Gemm": "gemm", "MatMul": "gemm"}
            layer = kind.get(node.op_type, node.op_type)
            found.append({"Name": node.name, "LayerType": layer, "Inputs": inputs})
        return found

    def _told(self, kind: str) -> dict[str, str]:
        if self.__version__.startswith("10."):
            long = {"Half": "FP16", "Float": "FP32"}.get(kind, kind)
            return {"Format/Datatype": f"Row major linear {long} format"}
        return {"Format": "Row major linear", "DataType": kind}


NAMES = (
    *("BuilderFlag", "NetworkDefinitionCreationFlag", "HardwareCompatibilityLevel"),
    *("ProfilingVerbosity", "MemoryPoolType", "LayerInformationFormat", "TensorIOMode"),
    *("DataType", "LayerType", "ExecutionContextAllocationStrategy", "ILogger"),
    *(
        "IProgressMonitor",
        "IProfiler",
        "IHostMemory",
        "ITimingCache",
        "ParserError",
        "ITensor",
        "ILayer",
    ),
    "INetworkDefinition",
    *("IOptimizationProfile", "OnnxParser", "IBuilderConfig", "Builder", "EngineInspector"),
    *("IExecutionContext", "ICudaEngine", "Runtime"),
)
