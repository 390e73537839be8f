"""The folder ``cifar-100-python`` of the official archive: three pickled dictionaries.

A pickle is a program. These are read by an unpickler that knows only what builds a NumPy array
of numbers, so a file that asks for anything else is refused instead of run.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.wording import cause
from ...errors import MldrError
from ..images import ArrayImages
from ..raw import RawDataset, RawSplit

_SIDE = 32
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which data has no need of")
        return super().find_class(module, name)


def load(folder: Path) -> RawDataset:
    """Train and test with the 100 fine classes. Raises MldrError for a damaged or foreign file."""
    classes = tuple(map(str, _read(folder / "meta")["fine_label_names"]))
    return RawDataset(classes, _split(folder / "train"), _split(folder / "test"))


def _split(path: Path) -> RawSplit:
    content = _read(path)
    try:
        planes = np.asarray(content["data"], np.uint8).reshape(-1, 3, _SIDE, _SIDE)
        labels = np.asarray(content["fine_labels"], np.int64)
    except (KeyError, ValueError, TypeError) as error:
        raise MldrError(f"{path} is not a CIFAR-100 file: {error}") from error
    if len(planes) != len(labels):
        raise MldrError(f"{path} has {len(planes)} pictures but {len(labels)} labels")
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return RawSplit(ArrayImages(pixels, path.name), labels, str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise MldrError(f"cannot read {path}: {cause(error)}") from error
    if not isinstance(content, dict):
        raise MldrError(f"{path} is not a CIFAR-100 file: it holds no dictionary")
    return content
