"""PyTorch on the bundle's weights, eager and compiled: what the artifacts are compared with.

The only runtimes that load torch, and only when they are chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from ..errors import Unavailable
from .runtime import RunError, Runtime, one_line


class PyTorch(Runtime):
    """``pytorch``. On the GPU where PyTorch sees one, else on the CPU; fp32."""

    name = "pytorch"
    _model: Any = None
    _fed: Any = None
    _logits: Any = None

    def load(self) -> None:
        import torch

        assert self.model.network is not None  # a file of weights has it
        model = self.model.network()
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self.options.cores)  # of the whole process; put back in unload
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda", self.options.device) if on_gpu else torch.device("cpu")
        self._model = self._prepared(model.to(self._device))

    def unload(self) -> None:
        import torch

        if self._model is not None:
            torch.set_num_threads(self._threads_before)
        self._model = self._fed = self._logits = None

    def feed(self, inputs: Floats) -> None:
        import torch

        self._fed = torch.from_numpy(np.ascontiguousarray(inputs, np.float32))
        self._fed = self._fed.to(self._device)
        self._wait()

    def compute(self) -> None:
        import torch

        try:
            with torch.inference_mode():
                self._logits = self._model(self._fed)
            self._wait()
        except RuntimeError as error:
            raise RunError(
                f"{self.file} does not run on a batch of {len(self._fed)}: {one_line(error)}"
            ) from error

    def fetch(self) -> Floats:
        return np.array(self._logits.cpu().numpy(), np.float32)

    def _prepared(self, model: Any) -> Any:
        return model

    def _wait(self) -> None:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)


class PyTorchCompiled(PyTorch):
    """``pytorch-compiled``: ``torch.compile`` with a dynamic batch, compiled in ``load``."""

    name = "pytorch-compiled"

    def _prepared(self, model: Any) -> Any:
        import torch

        compiled: Any = torch.compile(model, dynamic=True)
        assert self.model.preprocessing is not None  # a bundle's weights have it
        size = self.model.preprocessing.size
        try:
            with torch.inference_mode():
                for batch in (2, 1):  # a batch of one is always specialised
                    compiled(torch.zeros(batch, 3, *size, device=self._device))
        except Exception as error:  # the compiler's errors share no base class
            raise Unavailable(
                f"torch.compile does not work on this machine ({one_line(error)}): it needs a C++ "
                "compiler (g++); or choose --runtime pytorch"
            ) from error
        return compiled
