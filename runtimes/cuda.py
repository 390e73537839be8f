"""The few CUDA calls that an engine needs, by NVIDIA's own bindings (``cuda.bindings.runtime``).

Every call of theirs gives (error, results...); here an error is raised. Addresses are integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MldrError


class CudaError(MldrError):
    """The CUDA runtime refused a call."""


@dataclass(frozen=True)
class Properties:
    """Name, compute capability and driver of a GPU."""

    name: str
    compute_capability: str  # "9.0"
    driver: str  # newest CUDA that the driver takes, "13.0"


def device_count() -> int:
    """GPUs that CUDA sees. Raises CudaError where there is no driver."""
    from cuda.bindings import runtime

    return int(_checked(runtime.cudaGetDeviceCount()))


def properties(device: int) -> Properties:
    """Name, compute capability and driver of GPU ``device``."""
    from cuda.bindings import runtime

    about = _checked(runtime.cudaGetDeviceProperties(device))
    version = int(_checked(runtime.cudaDriverGetVersion()))
    return Properties(
        name=about.name.decode() if isinstance(about.name, bytes) else str(about.name),
        compute_capability=f"{about.major}.{about.minor}",
        driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def use(device: int) -> None:
    """Make GPU ``device`` the one that this thread works on."""
    from cuda.bindings import runtime

    _checked(runtime.cudaSetDevice(device))


class DeviceMemory:
    """Bytes on the GPU, until ``free``."""

    def __init__(self, size: int) -> None:
        from cuda.bindings import runtime

        self.size = max(size, 1)
        self.address = int(_checked(runtime.cudaMalloc(self.size)))

    def free(self) -> None:
        """Give the memory back; safe to call twice."""
        from cuda.bindings import runtime

        if self.address:
            _checked(runtime.cudaFree(self.address))
            self.address = 0


class Pinned:
    """A float32 array on the host that the GPU copies from and to without a detour."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        from cuda.bindings import runtime

        self.array: NDArray[np.float32] = np.zeros(shape, np.float32)
        self._registered = False
        _checked(
            runtime.cudaHostRegister(
                self.array.ctypes.data, self.array.nbytes, runtime.cudaHostRegisterDefault
            )
        )
        self._registered = True

    def free(self) -> None:
        """Let the memory be ordinary again; safe to call twice."""
        from cuda.bindings import runtime

        if self._registered:
            _checked(runtime.cudaHostUnregister(self.array.ctypes.data))
            self._registered = False


class Stream:
    """An order of work on the GPU, beside the host. ``handle`` is what TensorRT takes."""

    def __init__(self) -> None:
        from cuda.bindings import runtime

        self._stream: Any = _checked(
            runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking)
        )

    @property
    def handle(self) -> int:
        """The stream's address."""
        return int(self._stream)

    def to_device(self, target: DeviceMemory, source: NDArray[np.float32]) -> None:
        """Enqueue a copy of ``source``, contiguous and pinned, to the GPU."""
        from cuda.bindings import runtime

        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(target.address, source.ctypes.data, source.nbytes, kind)

    def to_host(self, target: NDArray[np.float32], source: DeviceMemory) -> None:
        """Enqueue a copy from the GPU into ``target``, contiguous and pinned."""
        from cuda.bindings import runtime

        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(target.ctypes.data, source.address, target.nbytes, kind)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        from cuda.bindings import runtime

        _checked(runtime.cudaMemcpyAsync(target, source, size, kind, self._stream))

    def wait(self) -> None:
        """Return when everything enqueued is done."""
        from cuda.bindings import runtime

        _checked(runtime.cudaStreamSynchronize(self._stream))

    def record(self, work: Callable[[], None]) -> CudaGraph:
        """Record what ``work`` enqueues instead of running it. Raises CudaError if it cannot be."""
        from cuda.bindings import runtime

        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(runtime.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        except BaseException:
            runtime.cudaStreamEndCapture(self._stream)  # the capture is void, the stream is not
            raise
        graph = _checked(runtime.cudaStreamEndCapture(self._stream))
        try:
            return CudaGraph(_checked(runtime.cudaGraphInstantiate(graph, 0)))
        finally:
            _checked(runtime.cudaGraphDestroy(graph))

    def replay(self, graph: CudaGraph) -> None:
        """Enqueue a recorded graph."""
        from cuda.bindings import runtime

        _checked(runtime.cudaGraphLaunch(graph.executable, self._stream))

    def free(self) -> None:
        """Destroy the stream; safe to call twice."""
        from cuda.bindings import runtime

        if self._stream is not None:
            _checked(runtime.cudaStreamDestroy(self._stream))
            self._stream = None


class CudaGraph:
    """Recorded work, ready to be replayed."""

    def __init__(self, executable: Any) -> None:
        self.executable = executable

    def free(self) -> None:
        """Destroy it; safe to call twice."""
        from cuda.bindings import runtime

        if self.executable is not None:
            _checked(runtime.cudaGraphExecDestroy(self.executable))
            self.executable = None


def _checked(result: tuple[Any, ...]) -> Any:
    """The result of a call, without its error code; CudaError where there was one."""
    from cuda.bindings import runtime

    error, *values = result
    if error != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(error)
        raise CudaError(f"CUDA: {text.decode() if isinstance(text, bytes) else text}")
    return values[0] if values else None
