"""Decoding whole splits: into memory, or only to see that every picture can be used.

Either way every picture's pixels are hashed, so that those that stand twice are seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..bundle.preprocess import Preprocessing, resized_size
from ..bundle.progress import Progress
from ..errors import MldrError
from .data_config import DataConfig
from .images import ArrayImages, Images, UnreadableImage, naming
from .omissions import printable
from .parallel import ordered_map
from .raw import RawSplit
from .twins import Hashes, pixel_hash

Pixels = NDArray[np.uint8]
_CHUNK = 128  # pictures a task: less waiting for the interpreter lock than one by one
_NAMED = 3  # unreadable pictures that a message names; of more, each has a note


class _MixedSizes(Exception):
    """A picture has another size than the first."""


@dataclass(frozen=True)
class Decoded:
    """Every split by name: its pictures' hashes, and their pixels where they were kept."""

    hashes: dict[str, Hashes]
    pixels: dict[str, Pixels] | None  # [N, h, w, 3]


def read_resident(
    splits: Mapping[str, RawSplit], config: DataConfig, progress: Progress
) -> Decoded | None:
    """Every split decoded into memory; None when the set must be streamed.

    Streamed are sets of pictures of several sizes and sets of more than ``data.resident_mib``.
    Raises MldrError naming unreadable pictures; of many, notes name each.
    """
    arrays = {name: split.images for name, split in splits.items()}
    total = sum(map(len, arrays.values()))
    shape = _first_shape(next(iter(arrays.values())))
    if shape is not None and total * int(np.prod(shape)) > config.resident_mib * 2**20:
        return None
    decoded_pixels = {
        name: part.pixels for name, part in arrays.items() if isinstance(part, ArrayImages)
    }
    if len(decoded_pixels) == len(arrays):
        return Decoded(
            {name: _hashes(pixels) for name, pixels in decoded_pixels.items()}, decoded_pixels
        )
    try:
        return _decode(arrays, shape, total, config, progress)
    except _MixedSizes:
        return None


def check_readable(
    splits: Mapping[str, RawSplit], config: DataConfig, progress: Progress
) -> Decoded:
    """Decode every picture once. Raises MldrError as ``read_resident``."""
    images = {name: split.images for name, split in splits.items()}
    return _decode(images, None, sum(map(len, images.values())), config, progress, keep=False)


def _evaluation(config: DataConfig) -> Preprocessing:
    """How the finished student sees a picture; no statistics."""
    side = config.image_size
    return Preprocessing(
        size=(side, side), crop_fraction=config.crop_fraction, mean=(0, 0, 0), std=(1, 1, 1)
    )


def _hashes(pixels: Pixels) -> Hashes:
    return np.fromiter(map(pixel_hash, pixels), np.uint64, len(pixels))


def _first_shape(images: Images) -> tuple[int, int, int] | None:
    """Shape of the first readable picture, [h, w, 3]."""
    for position in range(len(images)):
        try:
            image = images.rgb(position)
        except UnreadableImage:
            continue
        return image.height, image.width, 3
    return None


def _decode(
    images: Mapping[str, Images],
    shape: tuple[int, int, int] | None,
    total: int,
    config: DataConfig,
    progress: Progress,
    *,
    keep: bool = True,
) -> Decoded:
    """Decode all; with ``keep`` into arrays of ``shape``, raising _MixedSizes at another one."""
    out = {
        name: np.empty((len(part) if keep else 0, *(shape or (0, 0, 3))), np.uint8)
        for name, part in images.items()
    }
    hashes = {name: np.zeros(len(part), np.uint64) for name, part in images.items()}
    evaluation = _evaluation(config)

    def decode(chunk: tuple[str, range]) -> tuple[int, list[str]]:
        name, rows = chunk
        broken = []
        for row in rows:
            try:
                image = images[name].rgb(row)
                with naming(images[name], row):
                    resized_size(image.height, image.width, evaluation)
            except UnreadableImage as error:
                broken.append(printable(f"{name}: {error}"))
                continue
            if keep and (image.height, image.width, 3) != shape:
                raise _MixedSizes
            pixels = np.asarray(image)
            hashes[name][row] = pixel_hash(pixels)
            if keep:
                out[name][row] = pixels
        return len(rows), broken

    broken: list[str] = []
    progress.start("decoding images" if keep else "checking images", total)
    try:
        tasks = ordered_map(
            decode, _chunks(images), threads=config.workers, ahead=4 * config.workers
        )
        for count, names in tasks:
            broken += names
            progress.advance(count)
    finally:
        progress.finish()
    if len(broken) > _NAMED:
        for picture in broken:
            progress.note(f"data: unreadable: {picture}")
    if broken:
        raise MldrError(_complaint(broken, total))
    return Decoded(hashes, out if keep else None)


def _chunks(images: Mapping[str, Images]) -> Iterator[tuple[str, range]]:
    for name, part in images.items():
        for start in range(0, len(part), _CHUNK):
            yield name, range(start, min(start + _CHUNK, len(part)))


def _complaint(broken: list[str], total: int) -> str:
    named = "; ".join(broken[:_NAMED]) + ("; ..." if len(broken) > _NAMED else "")
    return (
        f"unreadable images: {named}. Replace or remove them "
        f"({len(broken)} of {total} images are unreadable)"
    )
