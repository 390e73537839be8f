"""A DOUBLE of ``cuda.bindings.runtime``: host memory plays the GPU's. No GPU is involved.

Strict where the real one fails late or silently: a copy must stay inside a live allocation, its
host side must be pinned, and nothing enqueued on a stream happens before the stream is waited
for. ``live()`` counts what was not given back.
"""

from __future__ import annotations

import ctypes
import enum
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Work = Callable[[], None]


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class Properties:
    def __init__(self, name: str, major: int, minor: int) -> None:
        self.name, self.major, self.minor = name.encode(), major, minor


OK = cudaError_t.cudaSuccess


class FakeCuda(ModuleType):
    """One machine. ``gpu`` and ``capability`` may be changed by a test; None: no GPU."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaHostRegisterDefault = 0
    cudaStreamNonBlocking = 1

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.gpu: str | None = "Double GPU"
        self.capability = (8, 9)
        self.records = True  # whether streams can be captured
        self.launches = 0
        self.device: dict[int, Any] = {}
        self.pinned: dict[int, int] = {}
        self.streams: dict[int, list[Work]] = {}
        self.capturing: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self._next = 1

    def live(self) -> int:
        return len(self.device) + len(self.pinned) + len(self.streams) + len(self.graphs)

    def _number(self) -> int:
        self._next += 1
        return self._next

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return (OK, 1) if self.gpu else (cudaError_t.cudaErrorNoDevice, None)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        if self.gpu is None or device != 0:
            return cudaError_t.cudaErrorNoDevice, None
        return OK, Properties(self.gpu, *self.capability)

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return OK, 13000

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        return (OK if device == 0 else cudaError_t.cudaErrorNoDevice,)

    def cudaGetErrorString(self, error: cudaError_t) -> tuple[Any, ...]:
        return OK, error.name.encode()

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        memory = (ctypes.c_char * size)()
        ctypes.memset(memory, 0x7F, size)  # never mistaken for a result
        self.device[ctypes.addressof(memory)] = memory
        return OK, ctypes.addressof(memory)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        return (OK if self.device.pop(address, None) is not None else 1,)

    def cudaHostRegister(self, address: int, size: int, flags: int) -> tuple[Any, ...]:
        self.pinned[address] = size
        return (OK,)

    def cudaHostUnregister(self, address: int) -> tuple[Any, ...]:
        return (OK if self.pinned.pop(address, None) is not None else 1,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = self._number()
        self.streams[stream] = []
        return OK, stream

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        del self.streams[stream]
        return (OK,)

    def enqueue(self, stream: int, work: Work) -> None:
        self.capturing.get(stream, self.streams[stream]).append(work)

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: cudaMemcpyKind, stream: int
    ) -> tuple[Any, ...]:
        there, here = (target, source) if kind == 1 else (source, target)
        device = {start: len(memory) for start, memory in self.device.items()}
        if not (_inside(there, size, device) and _inside(here, size, self.pinned)):
            return (cudaError_t.cudaErrorInvalidValue,)
        self.enqueue(stream, lambda: ctypes.memmove(target, source, size) and None)
        return (OK,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        if stream in self.capturing:
            return (cudaError_t.cudaErrorStreamCaptureInvalidated,)
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()
        return (OK,)

    def cudaStreamBeginCapture(self, stream: int, mode: Any) -> tuple[Any, ...]:
        self.capturing[stream] = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        recorded = self.capturing.pop(stream)
        if not self.records:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        return OK, recorded

    def cudaGraphInstantiate(self, graph: list[Work], flags: int) -> tuple[Any, ...]:
        number = self._number()
        self.graphs[number] = list(graph)
        return OK, number

    def cudaGraphDestroy(self, graph: list[Work]) -> tuple[Any, ...]:
        return (OK,)

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Any, ...]:
        self.launches += 1
        for step in self.graphs[executable]:
            self.enqueue(stream, step)
        return (OK,)

    def cudaGraphExecDestroy(self, executable: int) -> tuple[Any, ...]:
        del self.graphs[executable]
        return (OK,)


def installed(patch: pytest.MonkeyPatch) -> FakeCuda:
    """The double as ``cuda.bindings.runtime``, until ``patch`` is undone."""
    fake = FakeCuda()
    package, parent = ModuleType("cuda.bindings"), ModuleType("cuda")
    package.runtime, parent.bindings = fake, package  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "cuda", parent)
    patch.setitem(sys.modules, "cuda.bindings", package)
    patch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    return fake


def _inside(start: int, size: int, ranges: dict[int, int]) -> bool:
    return any(low <= start and start + size <= low + length for low, length in ranges.items())
