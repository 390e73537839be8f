"""Weights as safetensors files: plain arrays, no code, no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MldrError
from .atomic import atomic_file
from .wording import cause


def write_tensors(path: Path, tensors: dict[str, NDArray[Any]]) -> None:
    """Write the arrays under their names, in sorted order, in one step.

    Raises MldrError where the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    # ascontiguousarray makes a scalar (BatchNorm's counter) one-dimensional: give it its shape back
    shaped = {name: array.reshape(tensors[name].shape) for name, array in contiguous.items()}
    with atomic_file(path) as temporary:
        try:
            save_file(shaped, temporary)
        except SafetensorError as error:
            raise system_error(error) from error


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name. Raises MldrError when the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise MldrError(f"{path} is missing: write the folder again") from None
    except (OSError, SafetensorError) as error:
        raise MldrError(f"{path} is damaged ({cause(error)}): write the folder again") from None


def system_error(error: Exception) -> OSError:
    """What the system said, which safetensors tells in words: ``... (os error 28)``."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))
