"""A few real test images as fed, with the logits they must give: ``golden.npz``.

Arrays (K images, C classes): ``index`` int64 [K] into the test split, ``label`` int64 [K],
``pixels`` uint8 [K, H, W, 3] after resize and crop, ``inputs`` float32 [K, 3, H, W] as fed,
``logits`` float32 [K, C] of the PyTorch student, and ``source_k`` uint8 [h, w, 3], the upright
image before the resize ([0, 0, 3] when it has more than a million pixels).

With the sources in it, a bundle proves its own preprocessing bit for bit wherever it is opened:
another mean, channel order, crop or resize filter in the manifest cannot go unnoticed.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MldrError
from .atomic import write_bytes
from .preprocess import Floats, Pixels, Preprocessing, normalise, to_pixels

FILE = "golden.npz"
LARGEST_SOURCE = 1 << 20  # pixels


@dataclass(frozen=True)
class Golden:
    """The arrays of the module's docstring; ``sources`` holds ``source_0`` to ``source_K-1``."""

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    pixels: Pixels
    inputs: Floats
    logits: Floats
    sources: tuple[Pixels, ...]

    def __len__(self) -> int:
        return len(self.index)


def prepare(sources: list[Pixels], spec: Preprocessing) -> tuple[Pixels, Floats, list[Pixels]]:
    """(pixels, inputs, sources to keep) of upright RGB images."""
    pixels = np.stack([to_pixels(source, spec) for source in sources])
    nothing = np.empty((0, 0, 3), np.uint8)
    small = [s if s.shape[0] * s.shape[1] <= LARGEST_SOURCE else nothing for s in sources]
    return pixels, normalise(pixels, spec), small


def save_golden(path: Path, golden: Golden) -> None:
    """Write ``golden`` as a compressed archive of plain arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        index=golden.index,
        label=golden.label,
        pixels=golden.pixels,
        inputs=golden.inputs,
        logits=golden.logits,
        **{f"source_{k}": source for k, source in enumerate(golden.sources)},
    )
    write_bytes(path, buffer.getvalue())


def load_golden(path: Path) -> Golden:
    """Read ``path``. Raises MldrError when it is missing, damaged or not of this layout."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        golden = Golden(
            **{name: arrays[name] for name in ("index", "label", "pixels", "inputs", "logits")},
            sources=tuple(arrays[f"source_{k}"] for k in range(len(arrays["index"]))),
        )
    except FileNotFoundError:
        raise MldrError(f"{path} is missing: export the bundle again") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MldrError(f"{path} is damaged ({error}): export the bundle again") from None
    counts = {len(golden.label), len(golden.pixels), len(golden.inputs), len(golden.logits)}
    if counts != {len(golden)}:
        raise MldrError(f"{path} is damaged (arrays of different lengths): export it again")
    return golden


def verify_preprocessing(golden: Golden, spec: Preprocessing, path: Path) -> None:
    """Preprocess the golden images again and compare every bit. Raises MldrError on the first."""
    for k, source in enumerate(golden.sources):
        if source.size and not np.array_equal(to_pixels(source, spec), golden.pixels[k]):
            raise MldrError(
                f"{path}: golden image {k} is resized or cropped differently than at export: the "
                "manifest's preprocessing or this Pillow is not the one it was proven with"
            )
    again = normalise(golden.pixels, spec)
    if again.shape != golden.inputs.shape or again.tobytes() != golden.inputs.tobytes():
        raise MldrError(
            f"{path}: the golden inputs do not follow from the manifest's mean, std and channel "
            "order: export the bundle again"
        )
