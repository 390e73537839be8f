"""The views: the augmented pictures that the student sees in every step, made again at will.

b images of one process, S the student's side, C classes. A view is an epoch with an augmentation of
its own. A row is a step's place in the views: row r = view * steps_per_epoch + k is the k-th batch
of a view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.augment import Mix
from ..data.loader import TrainBatch, TrainBatches


@dataclass(frozen=True)
class MixedBatch:
    """One process's share of one step's images, augmented and mixed."""

    row: int
    by_side: Mapping[int, Tensor]  # side -> float32 [b, 3, side, side] of 0..255
    targets: Tensor  # [b, C]
    indices: Tensor  # int64 [b], positions in the training split

    @property
    def images(self) -> Tensor:
        """float32 [b, 3, side, side] of 0..255, for the first side that was asked for."""
        return next(iter(self.by_side.values()))


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
        self.side = batches.image_size

    def epoch(
        self, epoch: int, start_step: int = 0, sides: tuple[int, ...] = ()
    ) -> Iterator[MixedBatch]:
        """The batches of ``epoch`` from its ``start_step`` on, at ``sides``; at S where none.

        At every side they are the same parts of the same pictures, each resampled from its source.
        """
        view = epoch % self.count if self.count else epoch
        first = view * self.steps_per_epoch
        for k, batch in enumerate(self._batches.epoch(view, start_step, sides), start_step):
            row = first + k
            mixed = {side: self._mixed(row, side, batch) for side in batch.by_side}
            images = {side: pixels for side, (pixels, _) in mixed.items()}
            _, targets = next(iter(mixed.values()))  # the same at every side
            yield MixedBatch(row, images, targets, batch.indices)

    def pictures(self) -> Tensor:
        """Positions of the pictures that all processes see in each row: int64 [rows, G]."""
        orders = [self._batches.order(view) for view in range(self.count)]
        return torch.from_numpy(np.concatenate(orders))

    def _mixed(self, row: int, side: int, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """The images at ``side``, and their targets: the row's numbers are drawn anew."""
        generator = self._generator(row)
        pixels = self._batches.augment(batch.by_side[side], generator, side)
        return self._mix(pixels, batch.labels, self._classes, generator, drawn_at=self.side)

    def _generator(self, row: int) -> torch.Generator:
        words = np.random.SeedSequence([self._seed, row, self._rank])
        return torch.Generator().manual_seed(int(words.generate_state(2, np.uint32)[1]))
