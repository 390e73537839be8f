"""Batches for training and for evaluation.

b pictures in a batch (of one process), h x w their size, S the size fed to the student. A teacher
may take another size: it is one more of the ``sides`` that a batch is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..bundle.preprocess import Preprocessing, normalise, preprocess, to_pixels
from ..errors import MldrError
from .augment import Augment
from .balance import balanced_order, repetitions
from .crops import cut_out
from .data_config import AugmentConfig, DataConfig
from .parallel import ordered_map
from .split import Split

_BLOCK = 256  # resident pictures that are copied at once
_LOOKAHEAD = 3  # batches decoded before they are asked for


@dataclass(frozen=True)
class TrainBatch:
    """One process's share of a step's pictures, on its device."""

    by_side: Mapping[int, Tensor]  # uint8 [b, 3, h, w]: what each side is to be made from
    labels: Tensor  # int64 [b]
    indices: Tensor  # int64 [b], positions in the split

    @property
    def pixels(self) -> Tensor:
        """uint8 [b, 3, h, w], for the first side that was asked for."""
        return next(iter(self.by_side.values()))


class TrainBatches:
    """Shuffled, equally sized batches; the last, smaller one of an epoch is dropped.

    The order of an epoch is a function of (seed, epoch) alone; with ``balanced``, every class
    comes equally often in it. Global batch k is ``order[k*G : (k+1)*G]`` with G =
    ``config.batch_size``; process ``rank`` of ``world`` takes its contiguous share. Resident splits
    live on ``device`` and come out in their own size; streamed ones are decoded on threads and
    brought to S x S, each picture as a function of (seed, epoch, index), and of how often it came
    before in the epoch.

    ``augment`` is what is still to be done to a batch: for streamed pictures the threads have
    already taken the random resized crop, which needs the whole picture.
    """

    def __init__(
        self,
        split: Split,
        config: DataConfig,
        *,
        seed: int,
        device: torch.device | str,
        rank: int = 0,
        world: int = 1,
        augment: AugmentConfig,
        balanced: bool = False,
    ) -> None:
        if config.batch_size % world:
            raise MldrError(
                f"data.batch_size is {config.batch_size}, which {world} processes cannot share "
                "equally: choose a multiple"
            )
        if len(split) < config.batch_size:
            raise MldrError(
                f"data.batch_size is {config.batch_size}, and the training images are "
                f"{len(split)}: set it to so many or less"
            )
        self._split, self._config, self._augment_config = split, config, augment
        self._seed, self._rank, self._world = seed, rank, world
        self._balanced = balanced
        self.image_size = config.image_size
        self.device = torch.device(device)
        self.steps_per_epoch = len(split) // config.batch_size
        self._labels = torch.from_numpy(split.labels).to(self.device)
        self._resident: Tensor | None = None
        batch_augment = augment
        if split.resident is not None:
            self._resident = _planes(split).to(self.device)
        elif augment.crop == "random-resized":
            batch_augment = augment.model_copy(update={"crop": "none"})
        self.augment = Augment(batch_augment, config.image_size)

    def epoch(
        self, epoch: int, start_step: int = 0, sides: tuple[int, ...] = ()
    ) -> Iterator[TrainBatch]:
        """The batches of ``epoch`` from ``start_step`` on, for ``sides``; for S where none."""
        order = self.order(epoch)
        shares = self._shares(order, start_step)
        sides = sides or (self.image_size,)
        if self._resident is None:
            repeats = self._shares(repetitions(order.ravel()), start_step)
            return self._stream(epoch, shares, repeats, sides)
        return self._index(self._resident, shares, sides)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Positions that all processes together take, [steps, G]."""
        rng = np.random.default_rng([self._seed, epoch])
        if self._balanced:
            order = balanced_order(self._split.labels, rng)
        else:
            order = rng.permutation(len(self._split))
        return order[: self.steps_per_epoch * self._config.batch_size].reshape(
            self.steps_per_epoch, -1
        )

    def _shares(self, order: NDArray[np.int64], start_step: int) -> NDArray[np.int64]:
        """What this process takes of ``order``, [steps, b] of [steps, G]."""
        per_process = order.reshape(self.steps_per_epoch, self._world, -1)
        return per_process[start_step:, self._rank]

    def _index(
        self, resident: Tensor, shares: NDArray[np.int64], sides: tuple[int, ...]
    ) -> Iterator[TrainBatch]:
        indices = torch.from_numpy(np.ascontiguousarray(shares))
        for share in indices.to(self.device, non_blocking=True):
            pixels = resident[share]  # of their own size: every side is made from them
            yield TrainBatch(dict.fromkeys(sides, pixels), self._labels[share], share)

    def _stream(
        self,
        epoch: int,
        shares: NDArray[np.int64],
        repeats: NDArray[np.int64],
        sides: tuple[int, ...],
    ) -> Iterator[TrainBatch]:
        def fetch(draw: tuple[int, int]) -> list[NDArray[np.uint8]]:
            index, repeat = draw
            words = [self._seed, epoch, index, *([repeat] if repeat else [])]
            return self._cuts(index, sides, words)

        size, threads = shares.shape[1], self._config.workers
        draws = zip(shares.ravel().tolist(), repeats.ravel().tolist(), strict=True)
        pixels = ordered_map(fetch, draws, threads=threads, ahead=_LOOKAHEAD * size)
        for share in shares:
            fetched = zip(*(next(pixels) for _ in share), strict=True)
            images = [self._sent(np.stack(planes)).permute(0, 3, 1, 2) for planes in fetched]
            device_share = self._sent(share.copy())
            yield TrainBatch(
                dict(zip(sides, images, strict=True)), self._labels[device_share], device_share
            )

    def _sent(self, array: NDArray[Any]) -> Tensor:
        """The array on the device; nothing waits for the copy."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _cuts(
        self, index: int, sides: tuple[int, ...], words: list[int]
    ) -> list[NDArray[np.uint8]]:
        """Picture ``index`` for each side, decoded once."""
        image = self._split.image(index)
        with self._split.naming(index):
            return [self._cut(image, side, words) for side in sides]

    def _cut(self, image: Image.Image, side: int, words: list[int]) -> NDArray[np.uint8]:
        """``image`` as [side, side, 3], of a part that ``words`` decide whatever ``side`` is."""
        config = self._augment_config
        if config.crop == "random-resized":
            state = np.random.SeedSequence(words).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
            return cut_out(image, side, config, generator)
        return to_pixels(image, _plain(side))


class EvalBatches:
    """A split in order, as networks take it: (float32 [b, 3, S, S], int64 [b]) pairs.

    Everything goes through ``bundle.preprocess``, as it will in the service. Process ``rank`` of
    ``world`` takes its contiguous part. Iterating again starts again.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        batch_size: int,
        device: torch.device | str,
        *,
        rank: int = 0,
        world: int = 1,
        threads: int = 2,
    ) -> None:
        first, last = (len(split) * part // world for part in (rank, rank + 1))
        starts = range(first, last, batch_size)
        self._ranges = [range(start, min(start + batch_size, last)) for start in starts]
        self._split, self.preprocessing, self._threads = split, preprocessing, threads
        self.images = len(split)  # of all processes together
        self.device = torch.device(device)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._ranges)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, pixels in zip(self._ranges, self._arrays(), strict=True):
            labels = torch.from_numpy(self._split.labels[rows.start : rows.stop])
            yield torch.from_numpy(pixels).to(self.device), labels.to(self.device)

    def _arrays(self) -> Iterator[NDArray[np.float32]]:
        if self._split.resident is not None:
            for rows in self._ranges:
                resident = list(self._split.block(rows.start, rows.stop))
                yield preprocess(resident, self.preprocessing)
            return

        def decode(row: int) -> NDArray[np.uint8]:
            return self._split.fitted(row, self.preprocessing)

        every = (row for rows in self._ranges for row in rows)
        ahead = _LOOKAHEAD * max(map(len, self._ranges), default=1)
        pixels = ordered_map(decode, every, threads=self._threads, ahead=ahead)
        for rows in self._ranges:
            yield normalise(np.stack([next(pixels) for _ in rows]), self.preprocessing)


def _planes(split: Split) -> Tensor:
    """All pictures of a resident split, uint8 [N, 3, h, w]."""
    assert split.resident is not None
    planes = torch.empty((len(split), 3, *split.resident.shape[1:3]), dtype=torch.uint8)
    for start in range(0, len(split), _BLOCK):
        block = torch.from_numpy(split.block(start, start + _BLOCK))
        planes[start : start + _BLOCK] = block.permute(0, 3, 1, 2)
    return planes


def _plain(side: int) -> Preprocessing:
    """Shorter side to ``side``, centre crop; no statistics."""
    return Preprocessing(size=(side, side), mean=(0, 0, 0), std=(1, 1, 1))
