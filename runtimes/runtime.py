"""The interface of every runtime: a context manager with four verbs, so that time can be split.

    with open_runtime(bundle, "onnxruntime-cpu") as runtime:
        inputs = runtime.preprocess(images)    # on the host
        runtime.feed(inputs)                   # host to device
        runtime.compute()                      # returns when the device is done
        logits = runtime.fetch()               # device to host

B images, C classes, H x W the input size. A runtime serves one thread at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from ..bundle.preprocess import Floats, Pixels, preprocess
from ..bundle.processor import usable_cores
from ..errors import MldrError
from .model_file import ModelFile

Predictor = Callable[[Floats], Floats]  # inputs [B, 3, H, W] -> logits [B, C]


class RunError(MldrError):
    """A model file did not load, or did not run on these inputs."""


class RuntimeOptions(BaseModel):
    """Options of all runtimes; a runtime ignores those that do not concern it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="CPU threads that compute; 0: one per core this process may use.",
    )
    device: int = Field(default=0, ge=0, le=255, description="Number of the GPU, if one is used.")
    cuda_graphs: bool = Field(
        default=True,
        description="Record the GPU's work once per batch size and replay it (CUDA graphs).",
    )
    fusions: bool = Field(
        default=True, description="Whether ONNX Runtime on the CPU may fuse nodes."
    )
    trace: Path | None = Field(
        default=None,
        description="ONNX Runtime on the CPU writes its own per-node trace to a file whose name "
        "begins with this path.",
    )

    @property
    def cores(self) -> int:
        """Number of threads, with 0 resolved."""
        return self.threads or usable_cores()


class Runtime(ABC):
    """One model file, loaded between ``__enter__`` and ``__exit__``.

    ``compute`` works on what was fed last; ``fetch`` gives a fresh array that the caller owns.
    """

    name: ClassVar[str]

    def __init__(self, model: ModelFile, options: RuntimeOptions | None = None) -> None:
        self.model = model
        self.options = options or RuntimeOptions()

    @property
    def file(self) -> str:
        """What messages call the file: its name in the manifest, else its own."""
        return self.model.entry.file if self.model.entry else self.model.path.name

    def __enter__(self) -> Self:
        self.load()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unload()

    def preprocess(self, images: Sequence[Image.Image | Pixels]) -> Floats:
        """Images of any size -> input [B, 3, H, W], by the file's preprocessing."""
        assert self.model.preprocessing is not None  # a bundle's file has it
        return preprocess(images, self.model.preprocessing)

    def _require_loaded(self, session: object) -> None:
        if session is None:
            raise RuntimeError("use the runtime in a with statement")

    @abstractmethod
    def load(self) -> None:
        """Make ready. Raises RunError for the file, Unavailable for the machine."""

    @abstractmethod
    def unload(self) -> None:
        """Give everything back; safe to call twice."""

    @abstractmethod
    def feed(self, inputs: Floats) -> None:
        """Bring ``inputs`` [B, 3, H, W] to the device. They must stay unchanged until ``fetch``."""

    @abstractmethod
    def compute(self) -> None:
        """Run on what was fed; back when it is complete. Raises RunError."""

    @abstractmethod
    def fetch(self) -> Floats:
        """The logits [B, C] on the host."""

    def __call__(self, inputs: Floats) -> Floats:
        """``feed``, ``compute`` and ``fetch`` in one."""
        self.feed(inputs)
        self.compute()
        return self.fetch()


def one_line(error: BaseException) -> str:
    """A library's message on one line, cut to a readable length."""
    return " ".join(str(error).split())[:300] or type(error).__name__
