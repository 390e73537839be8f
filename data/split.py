"""A split of a data set, and how one is cut from another."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..bundle.preprocess import Preprocessing, to_pixels
from .images import ArrayImages, Images, naming


@dataclass(frozen=True)
class Split:
    """N labelled pictures, all in memory (``resident``) or read one by one (``image``).

    Parts of a split share its pixels, which are never copied as a whole.
    """

    images: Images
    rows: NDArray[np.int64]  # [N] position of each picture in `images`
    labels: NDArray[np.int64]  # [N]
    resident: NDArray[np.uint8] | None = None  # [M, h, w, 3], of all pictures in `images`

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> Self:
        """A resident split of RGB uint8 [N, h, w, 3] and labels [N]."""
        return cls(ArrayImages(pixels), np.arange(len(pixels)), labels.astype(np.int64), pixels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """A copy of all pictures, [N, h, w, 3]; None unless they are resident."""
        return None if self.resident is None else self.resident[self.rows]

    def block(self, start: int, stop: int) -> NDArray[np.uint8]:
        """A copy of the resident pictures from ``start`` to ``stop``, [stop - start, h, w, 3]."""
        assert self.resident is not None
        return self.resident[self.rows[start:stop]]

    def image(self, index: int) -> Image.Image:
        """Picture ``index``, upright, mode RGB, in its own size. Raises UnreadableImage."""
        row = int(self.rows[index])
        return (
            self.images.rgb(row) if self.resident is None else Image.fromarray(self.resident[row])
        )

    def fitted(self, index: int, spec: Preprocessing) -> NDArray[np.uint8]:
        """Picture ``index`` resized and cropped, [H, W, 3]. Raises UnreadableImage."""
        image = self.image(index)
        with self.naming(index):
            return to_pixels(image, spec)

    def naming(self, index: int) -> AbstractContextManager[None]:
        """Raises UnreadableImage, which names picture ``index``, for an UnfitPicture inside."""
        return naming(self.images, int(self.rows[index]))

    def name(self, index: int) -> str:
        """File or row that picture ``index`` came from."""
        return self.images.name(int(self.rows[index]))

    def subset(self, indices: NDArray[np.int64]) -> Split:
        """The pictures at ``indices``, in that order."""
        return Split(self.images, self.rows[indices], self.labels[indices], self.resident)


def stratified(
    labels: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions (kept, held out), both ascending, with ``fraction`` of every class held out.

    Counts are rounded to the nearest; a class of two or more is on both sides (unless
    ``fraction`` is 0) and a class of one is kept. A pure function of its arguments: a class's
    share depends on its own pictures only.
    """
    held_out: list[NDArray[np.int64]] = []
    for label in np.unique(labels) if fraction > 0 else []:
        members = np.flatnonzero(labels == label)
        count = min(max(int(len(members) * fraction + 0.5), 1), len(members) - 1)
        rng = np.random.default_rng([seed, int(label) % 2**32])  # -1 is refused later, by name
        held_out.append(rng.permutation(members)[:count])
    held_out_rows = np.sort(np.concatenate(held_out)) if held_out else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), held_out_rows), held_out_rows
