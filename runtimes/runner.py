"""Things that turn inputs into logits: the PyTorch student and each kind of artifact."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from ..bundle.preprocess import Floats
from ..bundle.processor import usable_cores
from ..errors import MldrError

if TYPE_CHECKING:
    from torch import nn


class RunError(MldrError):
    """An artifact did not load, or did not run on these inputs."""


class Runner(Protocol):
    """A context manager that maps inputs float32 [B, 3, H, W] to logits float32 [B, C]."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def __call__(self, inputs: Floats) -> Floats: ...


class OnnxRunner:
    """An ONNX file in ONNX Runtime on the CPU. ``threads`` 0: one per core of this process.

    Without ``fusions`` each node is computed on its own.

    Raises RunError when the file does not load or the inputs do not fit it.
    """

    def __init__(self, path: Path, threads: int = 0, *, fusions: bool = True) -> None:
        self.path = path
        self.threads = threads or usable_cores()
        self.fusions = fusions
        self._session: Any = None

    def __enter__(self) -> Self:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not self.fusions:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            self._session = onnxruntime.InferenceSession(
                self._model(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise RunError(
                f"{self.path.name} does not load in ONNX Runtime: {_line(error)}"
            ) from error
        return self

    def _model(self) -> str | bytes:
        """What the session is made of: a path, or a model in memory."""
        return str(self.path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None

    def __call__(self, inputs: Floats) -> Floats:
        if self._session is None:
            raise RuntimeError("use the runner in a with statement")
        name = self._session.get_inputs()[0].name
        try:
            (logits,) = self._session.run(None, {name: np.ascontiguousarray(inputs)})
        except Exception as error:
            raise RunError(
                f"{self.path.name} does not run on a batch of {len(inputs)}: {_line(error)}"
            ) from error
        return np.asarray(logits, np.float32)


class TorchRunner:
    """A PyTorch model in fp32 evaluation mode on the CPU, the reference of every comparison."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._was_training = model.training

    def __enter__(self) -> Self:
        self._was_training = self.model.training
        self.model.float().eval()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.model.train(self._was_training)

    def __call__(self, inputs: Floats) -> Floats:
        import torch

        with torch.inference_mode():
            logits: Floats = self.model(torch.from_numpy(inputs)).numpy()
        return logits


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
