"""Logits of one PyTorch student, computed once for all artifacts that are held against them."""

from __future__ import annotations

import hashlib

import numpy as np

from ..bundle.preprocess import Floats
from ..runtimes.runtime import Predictor

_LIMIT = 256 * 2**20  # bytes of logits; beyond, batches are computed again


class AnswerMemory:
    """Answers by the very bytes of what was asked, so that no other image can be mistaken for it.

    It belongs to one model: a batch answered through any predictor of that model is not computed
    again by the next.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self._answers: dict[bytes, Floats] = {}
        self._free = limit

    def through(self, predictor: Predictor) -> Predictor:
        """``predictor``, which is asked only what was not asked before."""

        def logits(inputs: Floats) -> Floats:
            key = _digest(inputs)
            if (answer := self._answers.get(key)) is None:
                answer = predictor(inputs)
                if answer.nbytes <= self._free:
                    self._answers[key] = answer.copy()
                    self._free -= answer.nbytes
            return answer.copy()

        return logits


def _digest(inputs: Floats) -> bytes:
    """A hash of shape and values."""
    contiguous = np.ascontiguousarray(inputs)
    digest = hashlib.blake2b(str((inputs.shape, inputs.dtype)).encode(), digest_size=16)
    digest.update(contiguous.data)
    return digest.digest()
