"""Labels of a table: numbers that count classes from 0, or names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MldrError
from .naming import class_name


def named_labels(names: Sequence[str], place: Callable[[int], str]) -> NDArray[Any]:
    """Names in Unicode NFC, an object array. ``place`` gives the text that locates a row.

    Raises MldrError for an empty name.
    """
    tidy = {name: class_name(name) for name in set(names)}
    for row, name in enumerate(names):
        if not name.strip():
            raise MldrError(f"{place(row)} has an empty label")
    return np.array([tidy[name] for name in names], object)


def largest_label(labels: NDArray[np.int64], origin: str) -> int:
    """The largest number; -1 where there is none.

    Raises MldrError for numbers that do not count classes from 0.
    """
    smallest, largest = int(labels.min(initial=0)), int(labels.max(initial=-1))
    if len(labels) and labels.min() == 1:
        raise MldrError(
            f"labels in {origin} start at 1 and end at {largest}: classes are numbered from 0, "
            "subtract 1 from each, or give names"
        )
    if smallest >= 0 and largest >= max(len(labels), 1):
        raise MldrError(
            f"label {largest} in {origin} is out of range: there are only {len(labels)} "
            "pictures, so classes must be numbered below that"
        )
    return largest


def out_of_range(label: int, place: str, classes: int, count: int) -> str:
    """Complaint about a label that is no class's number."""
    hint = ": -1 marks pictures without a label, leave them out" if label == -1 else ""
    if label == classes:
        hint = ": do the numbers start at 1? They must start at 0"
    return (
        f"label {label} of {place} is out of range: {classes} classes allow 0 to {classes - 1} "
        f"({count} such labels){hint}"
    )
