"""LiteRT on the CPU: a phone's file, run here for its proof."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from .image_by_image import ImageByImage
from .native_notes import no_native_notes
from .required_library import require_library


def require_litert() -> None:
    """Raises Unavailable where LiteRT is not installed, or does not load."""
    require_library("LiteRT", "ai_edge_litert.interpreter", "litert")


class LiteRt(ImageByImage):
    """``litert``, with XNNPACK's kernels."""

    name = "litert"
    library = "LiteRT"
    _interpreter: Any = None

    def _open(self) -> list[tuple[int, ...]]:
        require_litert()
        from ai_edge_litert.interpreter import Interpreter

        with no_native_notes():  # that it made XNNPACK's delegate
            self._interpreter = Interpreter(str(self.model.path), num_threads=self.options.cores)
            self._interpreter.allocate_tensors()
        ends = self._interpreter.get_input_details()
        return [tuple(end["shape"].tolist()) if end["dtype"] is np.float32 else () for end in ends]

    def _close(self) -> None:
        self._interpreter = None

    def _answer(self, image: Floats) -> Floats:
        (fed,), (logits,) = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        self._interpreter.set_tensor(fed["index"], image)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(logits["index"]), np.float32)
