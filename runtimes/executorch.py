"""ExecuTorch on the CPU: a phone's file, run here for its proof."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from .image_by_image import ImageByImage
from .native_notes import no_native_notes
from .required_library import require_library

METHOD = "forward"
_FLOAT = 6  # of ScalarType


def require_executorch() -> None:
    """Raises Unavailable where ExecuTorch is not installed, or does not load."""
    logger = logging.getLogger("torch.utils._pytree")  # torchao's notes to its own authors
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        require_library("ExecuTorch", "executorch.runtime", "executorch")
    finally:
        logger.setLevel(level)


class ExecuTorch(ImageByImage):
    """``executorch``. It takes PyTorch's tensors, so PyTorch is loaded with it."""

    name = "executorch"
    library = "ExecuTorch"
    _program: Any = None
    _method: Any = None

    def _open(self) -> list[tuple[int, ...]]:
        require_executorch()
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime as Library

        with no_native_notes():  # of what it reads of the processor
            if portable_lib._threadpool_get_thread_count() != self.options.cores:
                portable_lib._unsafe_reset_threadpool(self.options.cores)
        self._program = Library.get().load_program(self.model.path)
        self._method = self._program.load_method(METHOD)
        metadata = self._method.metadata
        ends = [metadata.input_tensor_meta(k) for k in range(metadata.num_inputs())]
        return [tuple(end.sizes()) if end.dtype() == _FLOAT else () for end in ends]

    def _close(self) -> None:
        self._method = self._program = None

    def _answer(self, image: Floats) -> Floats:
        import torch

        (logits,) = self._method.execute([torch.from_numpy(image)])
        return np.array(logits.numpy(), np.float32)
