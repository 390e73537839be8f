"""A loaded model that several visitors of the page share."""

from __future__ import annotations

import threading
import time

from ..bundle.preprocess import Floats
from ..runtimes.runtime import Runtime


class Turns:
    """A runtime serves one thread at a time: callers take turns. A call returns its seconds too."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._turn = threading.Lock()

    def __call__(self, inputs: Floats) -> tuple[Floats, float]:
        """Logits [B, C] of inputs [B, 3, H, W], and the seconds that they took."""
        with self._turn:
            began = time.perf_counter()
            logits = self.runtime(inputs)
            return logits, time.perf_counter() - began
