"""Whether one method is better than another by more than chance, from paired outcomes.

Two sources of chance are told apart. Another test set: exact McNemar on the same test images, seed
by seed, so that a difference counts only when every seed shows it. Another seed: Student's paired
t-test over the seeds, which needs three or more to say anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..bundle.mcnemar import mcnemar_exact

ALPHA = 0.05
_SEEDS_FOR_T = 3

Hits = NDArray[np.bool_]  # [N], whether a test image was told right


@dataclass(frozen=True)
class PairedTest:
    """``first`` against ``second`` over the same images and seeds."""

    gain: float  # points of top-1, mean over seeds
    mcnemar_p: tuple[float, ...]  # two-sided, one a seed
    t_test_p: float | None  # two-sided over seeds; None below three seeds

    @property
    def significant(self) -> bool:
        """Every seed's McNemar test says so, all in the same direction, and no t-test denies it."""
        images = all(p < ALPHA for p in self.mcnemar_p)
        return images and self._one_way and (self.t_test_p is None or self.t_test_p < ALPHA)

    _one_way: bool = True


def compare(first: Sequence[Hits], second: Sequence[Hits]) -> PairedTest:
    """``first[k]`` and ``second[k]`` are the outcomes with seed k, on the same images.

    Raises ValueError when there are no seeds or the lengths differ.
    """
    gains, p_values = [], []
    for first_hits, second_hits in zip(first, second, strict=True):
        if first_hits.shape != second_hits.shape:
            raise ValueError(
                f"outcomes of {first_hits.size} and {second_hits.size} images are not paired"
            )
        won, lost = int((first_hits & ~second_hits).sum()), int((second_hits & ~first_hits).sum())
        gains.append(100 * (won - lost) / first_hits.size)
        p_values.append(mcnemar_exact(lost, won))
    if not gains:
        raise ValueError("no seeds to compare")
    signs = {math.copysign(1, gain) for gain in gains if gain}
    return PairedTest(
        gain=float(np.mean(gains)),
        mcnemar_p=tuple(p_values),
        t_test_p=_paired_t(gains),
        _one_way=len(signs) == 1,
    )


def _paired_t(gains: Sequence[float]) -> float | None:
    """Two-sided p of Student's t-test that the seeds' mean gain is 0."""
    if len(gains) < _SEEDS_FOR_T:
        return None
    if len(set(gains)) == 1:
        return 0.0 if gains[0] else 1.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(gains, 0.0).pvalue)
