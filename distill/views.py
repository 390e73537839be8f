"""What the student sees in every step, and that it can be seen again.

b images of one process, S their side, C classes. A row is a step's place in the views: row
r = view * steps_per_epoch + k is the k-th batch of a view's epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.augment import Mix
from ..data.loader import TrainBatches


@dataclass(frozen=True)
class View:
    """One process's share of one step's images, augmented and mixed."""

    row: int
    images: Tensor  # float32 or uint8 [b, 3, S, S] of 0..255
    targets: Tensor  # [b, C]
    indices: Tensor  # int64 [b], positions in the training split


class Views:
    """Epochs of augmented batches; every pixel is a function of (seed, row, process).

    Args:
        count: distinct epochs, after which the same pixels come again; 0: every epoch is new.
    """

    def __init__(
        self,
        batches: TrainBatches,
        mix: Mix,
        *,
        classes: int,
        seed: int,
        rank: int = 0,
        count: int = 0,
    ) -> None:
        self._batches, self._mix, self._classes = batches, mix, classes
        self._seed, self._rank, self.count = seed, rank, count
        self.steps_per_epoch = batches.steps_per_epoch

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[View]:
        """The views of ``epoch`` from its ``start_step`` on."""
        view = epoch % self.count if self.count else epoch
        first = view * self.steps_per_epoch
        for k, batch in enumerate(self._batches.epoch(view, start_step), start_step):
            generator = self._generator(first + k)
            pixels = self._batches.augment(batch.pixels, generator)
            images, targets = self._mix(pixels, batch.labels, self._classes, generator)
            yield View(first + k, images, targets, batch.indices)

    def _generator(self, row: int) -> torch.Generator:
        words = np.random.SeedSequence([self._seed, row, self._rank])
        return torch.Generator().manual_seed(int(words.generate_state(2, np.uint32)[1]))
