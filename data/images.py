"""Where one picture is read from: an array, encoded bytes in memory, or a file.

N images; h, w the size of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..bundle.picture import UnfitPicture, open_picture
from ..errors import MldrError


class Digest(Protocol):
    """The part of ``hashlib.sha256()`` that is used here."""

    def update(self, data: Any, /) -> None:
        """Take ``data`` into the hash."""


class UnreadableImage(MldrError):
    """An image that cannot be decoded or fitted; the message names it and says why."""


class Images(Protocol):
    """N pictures, read by position."""

    def __len__(self) -> int: ...

    def rgb(self, position: int) -> Image.Image:
        """The picture, upright, decoded, mode RGB. Raises UnreadableImage."""

    def name(self, position: int) -> str:
        """The file or row by which a person finds the picture."""

    def feed(self, digest: Digest) -> None:
        """Give ``digest`` the bytes that identify the pictures."""


class ArrayImages:
    """Pictures that are already decoded: RGB uint8 [N, h, w, 3]."""

    def __init__(self, pixels: NDArray[np.uint8], origin: str = "the array") -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise ValueError(
                f"pixels must be uint8 [N, h, w, 3], not {pixels.dtype} {pixels.shape}"
            )
        self.pixels = pixels
        self._origin = origin

    def __len__(self) -> int:
        return len(self.pixels)

    def rgb(self, position: int) -> Image.Image:
        """The picture."""
        return Image.fromarray(self.pixels[position])

    def name(self, position: int) -> str:
        """Its row and origin."""
        return f"row {position} of {self._origin}"

    def feed(self, digest: Digest) -> None:
        """Shape and pixels."""
        digest.update(repr(self.pixels.shape).encode())
        digest.update(np.ascontiguousarray(self.pixels))


class EncodedImages:
    """Pictures as encoded files in memory: an Arrow ``large_binary`` array of N rows."""

    def __init__(self, encoded: Any, shards: Sequence[tuple[str, int]]) -> None:
        """``shards``: name and number of rows of each file, in the order of the rows."""
        self._encoded = encoded
        self._names = [name for name, _ in shards]
        self._starts = np.cumsum([0, *(rows for _, rows in shards)])

    def __len__(self) -> int:
        return len(self._encoded)

    def rgb(self, position: int) -> Image.Image:
        """The picture, decoded."""
        data = self._encoded[position].as_py()
        if data is None:
            raise UnreadableImage(f"{self.name(position)} (no image)")
        return _decoded(data, self, position)

    def name(self, position: int) -> str:
        """Row and file, rows counted from 0 in each file."""
        shard = int(np.searchsorted(self._starts, position, side="right")) - 1
        return f"row {position - int(self._starts[shard])} of {self._names[shard]}"

    def heads(self, length: int) -> list[bytes | None]:
        """The first ``length`` bytes of every file; None where there is no file."""
        import pyarrow.compute as pc

        return list(pc.binary_slice(self._encoded, 0, length).to_pylist())

    def feed(self, digest: Digest) -> None:
        """Length and bytes of every file."""
        offsets = np.frombuffer(self._encoded.buffers()[1], np.int64)
        first = self._encoded.offset
        used = offsets[first : first + len(self) + 1]
        digest.update(np.diff(used))
        digest.update(memoryview(self._encoded.buffers()[2])[int(used[0]) : int(used[-1])])


class FileImages:
    """Pictures as files under one folder."""

    def __init__(self, folder: Path, paths: Sequence[Path | str]) -> None:
        self._inside = f"{folder}/"
        self._paths = list(map(str, paths))

    def __len__(self) -> int:
        return len(self._paths)

    def rgb(self, position: int) -> Image.Image:
        """The picture, read and decoded."""
        try:
            data = Path(self._paths[position]).read_bytes()
        except OSError as error:
            raise UnreadableImage(f"{self.name(position)} ({error.strerror})") from error
        return _decoded(data, self, position)

    def name(self, position: int) -> str:
        """Path relative to the data set's folder, or whole where it lies elsewhere."""
        return self._paths[position].removeprefix(self._inside)

    def feed(self, digest: Digest) -> None:
        """Relative path and size of every file; contents are not read (they may be terabytes)."""
        for position, path in enumerate(self._paths):
            size = os.stat(path).st_size  # noqa: PTH116  a Path each would double the time
            entry = f"{self.name(position)}\0{size}\n"
            digest.update(entry.encode("utf-8", "surrogateescape"))


class PartOf:
    """The pictures of another ``Images`` at given rows, without a copy."""

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        self._images = images
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def rgb(self, position: int) -> Image.Image:
        """The picture."""
        return self._images.rgb(int(self._rows[position]))

    def name(self, position: int) -> str:
        """The picture's name in the other ``Images``."""
        return self._images.name(int(self._rows[position]))

    def feed(self, digest: Digest) -> None:
        """All pictures of the other ``Images``, and the rows of this part."""
        self._images.feed(digest)
        digest.update(np.ascontiguousarray(self._rows, dtype="<i8"))


def _decoded(data: bytes, images: Images, position: int) -> Image.Image:
    with naming(images, position):
        return open_picture(data)


@contextmanager
def naming(images: Images, position: int) -> Iterator[None]:
    """Raises UnreadableImage, which names the picture, for an UnfitPicture inside."""
    try:
        yield
    except UnfitPicture as error:
        raise UnreadableImage(f"{images.name(position)} ({error})") from error
