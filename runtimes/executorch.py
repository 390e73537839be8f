"""ExecuTorch on the CPU: a phone's file, run here for its proof.

The file takes one image, so a batch is as many calls.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from ..errors import Unavailable
from .runtime import RunError, Runtime, one_line

METHOD = "forward"
_FLOAT = 6  # of ScalarType


def require_executorch() -> None:
    """Raises Unavailable where ExecuTorch is not installed, or does not load."""
    logger = logging.getLogger("torch.utils._pytree")  # torchao's notes to its own authors
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import executorch.runtime  # noqa: F401
    except (ImportError, OSError) as error:
        raise Unavailable(
            f'ExecuTorch is not there ({one_line(error)}): pip install "mldr-deploy[executorch]"'
        ) from error
    finally:
        logger.setLevel(level)


class ExecuTorch(Runtime):
    """``executorch``. It takes PyTorch's tensors, so PyTorch is loaded with it."""

    name = "executorch"
    _method: Any = None
    _fed: Floats | None = None
    _logits: list[Floats] | None = None

    def load(self) -> None:
        require_executorch()
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime as Library

        if portable_lib._threadpool_get_thread_count() != self.options.cores:
            portable_lib._unsafe_reset_threadpool(self.options.cores)
        try:
            self._program = Library.get().load_program(self.model.path)
            self._method = self._program.load_method(METHOD)
            about = self._method.metadata
            ends = [about.input_tensor_meta(k) for k in range(about.num_inputs())]
            self._shapes = [tuple(end.sizes()) for end in ends if end.dtype() == _FLOAT]
        except Exception as error:  # its errors are RuntimeError, KeyError and others
            raise RunError(f"{self.file} does not load in ExecuTorch: {one_line(error)}") from error
        if [shape[:2] for shape in self._shapes] != [(1, 3)] or len(ends) != 1:
            self.unload()
            raise RunError(
                f"{self.file} takes {self._shapes or 'no floats'} where one image [1, 3, H, W] is "
                "fed at a time: export the bundle again"
            )

    def unload(self) -> None:
        self._method = self._program = self._fed = self._logits = None

    def feed(self, inputs: Floats) -> None:
        self._require_loaded(self._method)
        self._fed = np.ascontiguousarray(inputs, np.float32)

    def compute(self) -> None:
        import torch

        assert self._fed is not None, "feed before compute"
        self._logits = []
        for image in torch.tensor(self._fed).split(1):
            if tuple(image.shape) != self._shapes[0]:
                shape = [*image.shape]
                raise RunError(f"{self.file} does not run on {shape}: it takes {self._shapes[0]}")
            try:
                (logits,) = self._method.execute([image])
            except Exception as error:
                raise RunError(f"{self.file} does not run: {one_line(error)}") from error
            self._logits.append(np.array(logits.numpy(), np.float32))

    def fetch(self) -> Floats:
        assert self._logits is not None, "feed and compute before fetch"
        return np.concatenate(self._logits)
