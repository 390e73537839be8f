"""What runs a file of one image, as a phone's is: a batch is as many calls."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from ..bundle.preprocess import Floats
from ..errors import MldrError
from .runtime import RunError, Runtime, one_line


class ImageByImage(Runtime):
    """``_open``, ``_close`` and ``_answer`` are the library's; here are the loop and the checks."""

    library: str
    _shape: tuple[int, ...] | None = None  # of the one image
    _fed: Floats | None = None
    _logits: list[Floats] | None = None

    @abstractmethod
    def _open(self) -> list[tuple[int, ...]]:
        """Load the file: the shapes of its inputs of 32-bit floats, () for one of another type."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of the file."""

    @abstractmethod
    def _answer(self, image: Floats) -> Floats:
        """Logits [1, C] of ``image`` [1, 3, H, W], in an array that the caller owns."""

    def load(self) -> None:
        try:
            shapes = self._open()
        except MldrError:
            raise
        except Exception as error:  # these libraries raise RuntimeError, KeyError, ValueError
            reason = one_line(error)
            raise RunError(f"{self.file} does not load in {self.library}: {reason}") from error
        if [shape[:2] for shape in shapes] != [(1, 3)]:
            self.unload()
            raise RunError(
                f"{self.file} takes {shapes} where one image [1, 3, H, W] of floats is fed at a "
                "time: export the bundle again"
            )
        self._shape = shapes[0]

    def unload(self) -> None:
        self._shape = self._fed = self._logits = None
        self._close()

    def feed(self, inputs: Floats) -> None:
        self._require_loaded(self._shape)
        self._fed = np.ascontiguousarray(inputs, np.float32)

    def compute(self) -> None:
        assert self._fed is not None, "feed before compute"
        self._logits = []
        if self._fed.shape[1:] != (self._shape or ())[1:]:
            shape = [*self._fed.shape]
            raise RunError(
                f"{self.file} does not run on {shape}: it takes {[*(self._shape or ())]}"
            )
        for image in self._fed:
            try:
                self._logits.append(self._answer(image[None]))
            except Exception as error:
                raise RunError(f"{self.file} does not run: {one_line(error)}") from error

    def fetch(self) -> Floats:
        assert self._logits is not None, "feed and compute before fetch"
        return np.concatenate(self._logits)
