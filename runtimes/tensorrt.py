"""Running an engine: buffers allocated once, one CUDA graph per batch size, asynchronous copies.

B images, C classes; inputs float32 [B, 3, H, W], logits float32 [B, C], as in every artifact.

A recorded graph holds the state of its execution context, so each batch size gets a context of its
own; they share one piece of scratch memory, since one stream runs one of them at a time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..bundle.engine import EngineRecord
from ..bundle.preprocess import Floats
from ..errors import Unavailable
from . import cuda
from .engine_loading import load_engine
from .model_file import ModelFile
from .runtime import RunError, Runtime, RuntimeOptions
from .tensorrt_logger import complaint, quiet_logger
from .tensorrt_machine import this_machine
from .tensorrt_profiler import LayerReport, layer_profiler

if TYPE_CHECKING:
    import tensorrt as trt

Resource = TypeVar("Resource", cuda.DeviceMemory, cuda.Pinned, cuda.Stream)
_MOST_PREPARED = 16  # batch sizes with a context and a graph; the least recent makes room


@dataclass(frozen=True)
class _Prepared:
    """One batch size, ready to run."""

    context: trt.IExecutionContext
    graph: cuda.CudaGraph | None  # None: this engine's work cannot be recorded


class TensorRt(Runtime):
    """``tensorrt``. An engine that a manifest lists; nothing is built here.

    An engine is code, so the very bytes that are given to TensorRT are hashed first, and others
    than the manifest's are refused.
    """

    name = "tensorrt"

    def __init__(self, model: ModelFile, options: RuntimeOptions | None = None) -> None:
        super().__init__(model, options)
        self.max_batch = 0
        self._engine: Any = None
        self._runtime: Any = None
        self._logger: Any = None
        self._profiler: Any = None
        self._resources: list[cuda.DeviceMemory | cuda.Pinned | cuda.Stream] = []
        self._prepared: OrderedDict[int, _Prepared] = OrderedDict()

    def load(self) -> None:
        """Verify machine and hash, load the file, and allocate everything a call needs."""
        record = self._fitting_record()
        content = self.model.path.read_bytes() if self.model.path.is_file() else b""
        assert self.model.entry is not None
        if hashlib.sha256(content).hexdigest() != self.model.entry.sha256:
            raise RunError(
                f"{self.file} is not the engine that the manifest lists (its SHA-256 differs): it "
                "is not loaded; export the bundle again"
            )
        cuda.use(self.options.device)
        try:
            self._load(content, record.version_compatible)
        except BaseException:
            self.unload()
            raise

    def _fitting_record(self) -> EngineRecord:
        """Raises Unavailable for an engine that was built for another GPU or TensorRT."""
        if self.model.engine is None:
            raise RunError(f"{self.file} is no TensorRT engine by its manifest")
        reason = self.model.engine.misfit(this_machine(self.options.device))
        if reason is not None:
            raise Unavailable(
                f"{self.file}: {reason}: `mldr-deploy build-engine BUNDLE` builds one for this "
                "machine from the ONNX file"
            )
        return self.model.engine

    def _load(self, content: bytes, host_code: bool) -> None:
        import tensorrt as trt

        self._logger = quiet_logger(trt)
        # A version-compatible engine carries a small runtime of its own, which is host code.
        self._runtime, loaded = load_engine(content, self._logger, host_code=host_code)
        engine: trt.ICudaEngine = loaded
        if engine is None:
            raise RunError(f"{self.file} does not load: {complaint(self._logger)}")
        self._engine = engine
        self._input, self._output = _ends(engine, self.file)
        smallest, _, largest = engine.get_tensor_profile_shape(self._input, 0)
        self._image = tuple(int(side) for side in largest)[1:]
        self.min_batch, self.max_batch = int(smallest[0]), int(largest[0])
        classes = int(tuple(engine.get_tensor_shape(self._output))[-1])
        self._allocate(classes, int(engine.device_memory_size_v2))

    def _allocate(self, classes: int, scratch: int) -> None:
        inputs, logits = (self.max_batch, *self._image), (self.max_batch, classes)
        self._stream = self._register(cuda.Stream())
        self._inputs, self._logits = (
            self._register(cuda.Pinned(inputs)),
            self._register(cuda.Pinned(logits)),
        )
        self._device_inputs = self._register(cuda.DeviceMemory(self._inputs.array.nbytes))
        self._device_logits = self._register(cuda.DeviceMemory(self._logits.array.nbytes))
        self._scratch = self._register(cuda.DeviceMemory(scratch))
        self._fed = 0

    def _register(self, resource: Resource) -> Resource:
        self._resources.append(resource)
        return resource

    def unload(self) -> None:
        """Give everything back; safe to call twice."""
        while self._prepared:
            self._forget()
        for resource in reversed(self._resources):
            resource.free()
        self._resources.clear()
        self._engine = self._runtime = self._logger = self._profiler = None

    def attach_profiler(self, report: LayerReport) -> None:
        """Have ``report`` called with the milliseconds of each layer of every call from now on.

        Raises RunError with CUDA graphs, which hide layers: load it with ``cuda_graphs=False``.
        """
        import tensorrt as trt

        self._require_loaded(self._engine)
        if self.options.cuda_graphs:
            raise RunError(f"{self.file}: recorded CUDA graphs tell no time per layer")
        self._profiler = layer_profiler(trt, report)
        for prepared in self._prepared.values():
            context: trt.IExecutionContext = prepared.context
            context.profiler = self._profiler

    def feed(self, inputs: Floats) -> None:
        """Bring ``inputs`` [B, 3, H, W] to the GPU; back when they are there."""
        self._feed(inputs)
        self._stream.wait()

    def compute(self) -> None:
        """Run on what was fed last; back when it is complete."""
        self._compute()
        self._stream.wait()

    def fetch(self) -> Floats:
        """The logits [B, C] on the host, the caller's own."""
        self._fetch()
        self._stream.wait()
        return self._logits.array[: self._fed].copy()

    def __call__(self, inputs: Floats) -> Floats:
        """All three with one wait; more than ``max_batch`` images go in several calls."""
        self._require_loaded(self._engine)
        parts = []
        for start in range(0, max(len(inputs), 1), self.max_batch):
            self._feed(inputs[start : start + self.max_batch])
            self._compute()
            parts.append(self.fetch())
        return np.concatenate(parts)

    def _feed(self, inputs: Floats) -> None:
        self._require_loaded(self._engine)
        batch = len(inputs)
        if inputs.shape[1:] != self._image or not self.min_batch <= batch <= self.max_batch:
            image = ", ".join(str(side) for side in self._image)
            raise RunError(
                f"{self.file} takes [{self.min_batch} to {self.max_batch}, {image}], not "
                f"{[*inputs.shape]}"
            )
        pinned = self._inputs.array[:batch]
        np.copyto(pinned, inputs)
        self._stream.to_device(self._device_inputs, pinned)
        self._fed = batch

    def _compute(self) -> None:
        self._require_loaded(self._engine)
        if not self._fed:
            raise RuntimeError("feed before compute")
        prepared = self._prepare(self._fed)
        if prepared.graph is not None:
            self._stream.replay(prepared.graph)
        else:
            self._enqueue(prepared.context)

    def _fetch(self) -> None:
        self._require_loaded(self._engine)
        self._stream.to_host(self._logits.array[: self._fed], self._device_logits)

    def _prepare(self, batch: int) -> _Prepared:
        if batch in self._prepared:
            self._prepared.move_to_end(batch)
            return self._prepared[batch]
        while len(self._prepared) >= _MOST_PREPARED:
            self._forget()
        context = self._context(batch)
        graph = None
        if self.options.cuda_graphs:
            # Once outside of the recording: the first call allocates and updates lazily.
            self._enqueue(context)
            self._stream.wait()
            try:
                graph = self._stream.record(lambda: self._enqueue(context))
            except (cuda.CudaError, RunError):
                graph = None  # for example a loop whose length the host decides
        self._prepared[batch] = _Prepared(context, graph)
        return self._prepared[batch]

    def _context(self, batch: int) -> trt.IExecutionContext:
        import tensorrt as trt

        engine: trt.ICudaEngine = self._engine
        context = engine.create_execution_context(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise RunError(f"{self.file}: no execution context: {complaint(self._logger)}")
        if self._profiler is not None:
            context.profiler = self._profiler
        context.set_device_memory(self._scratch.address, self._scratch.size)
        accepted = (
            context.set_input_shape(self._input, (batch, *self._image))
            and context.set_tensor_address(self._input, self._device_inputs.address)
            and context.set_tensor_address(self._output, self._device_logits.address)
        )
        if not accepted:
            raise RunError(f"{self.file} refuses {batch} images: {complaint(self._logger)}")
        return context

    def _enqueue(self, context: trt.IExecutionContext) -> None:
        if not context.execute_async_v3(self._stream.handle):
            raise RunError(f"{self.file} does not run: {complaint(self._logger)}")

    def _forget(self) -> None:
        _, prepared = self._prepared.popitem(last=False)
        if prepared.graph is not None:
            prepared.graph.free()


def _ends(engine: trt.ICudaEngine, file: str) -> tuple[str, str]:
    """Names of the one input and the one output. Raises RunError for anything else."""
    import tensorrt as trt

    names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
    inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    outputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT]
    floats = all(engine.get_tensor_dtype(n) == trt.DataType.FLOAT for n in names)
    if len(inputs) != 1 or len(outputs) != 1 or not floats:
        raise RunError(f"{file} has other tensors than one float32 input and one output: {names}")
    return inputs[0], outputs[0]
