"""Pictures that stand twice, pixel by pixel after decoding.

A hash of 64 bits stands for a picture; among a million, two that differ share one once in 4e7 sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..bundle.progress import Progress
from ..errors import MldrError
from .omissions import printable
from .split import Split

Hashes = NDArray[np.uint64]  # [N]


def pixel_hash(pixels: NDArray[np.uint8]) -> int:
    """64 bits of the width and pixels of a picture, RGB [h, w, 3]; good within this process.

    Python's own hash is keyed anew in every process, and takes a sixth of BLAKE2's time at 32 px.
    """
    return hash((pixels.shape[1], pixels.tobytes())) % 2**64


@dataclass(frozen=True)
class Twins:
    """Counts of pictures that stand twice, and their names."""

    leaked: int  # pictures of test that are in train or val
    contradicted: int  # pictures of train and val that another one repeats under another label
    example: str  # the first leaked one and its twin; empty without
    groups: tuple[str, ...]  # names of equal pictures that are to be parted, a group a line
    cut: bool  # whether test was cut from train


def find_twins(
    learnt: list[tuple[Split, Hashes]], test: tuple[Split, Hashes], *, cut: bool = False
) -> Twins:
    """Compare ``test`` with ``learnt``, train and val; each with the hashes of its pictures.

    Where test was ``cut`` from train, groups hold all that stand twice: without some of them the
    next cut would part others.
    """
    hashes = np.concatenate([split_hashes for _, split_hashes in learnt])
    labels = np.concatenate([split.labels for split, _ in learnt])
    leaked = np.flatnonzero(np.isin(test[1], hashes))
    example = ""
    if len(leaked):
        position = int(leaked[0])
        twin = int(np.flatnonzero(hashes == test[1][position])[0])
        example = f"{test[0].name(position)} is {_name(learnt, twin)}"
    equal = _repeated(np.concatenate([hashes, test[1]])) if cut else np.unique(test[1][leaked])
    groups = _groups([test, *learnt], equal) if len(leaked) else ()
    return Twins(len(leaked), _contradicted(hashes, labels), example, groups, cut)


def refuse_leak(twins: Twins, tested: int, share: float, progress: Progress) -> None:
    """Raise MldrError where more than ``share`` of the ``tested`` pictures were trained on.

    Before it, notes name all of them with their twins.
    """
    if share >= 1 or twins.leaked <= share * tested:
        return
    for group in twins.groups:
        progress.note(f"data: the same picture: {printable(group)}")
    remedy = "keep one copy of each" if twins.cut else "remove them from one side"
    raise MldrError(
        f"{twins.leaked} of {tested} test pictures stand in train or validation too, pixel by "
        f"pixel ({printable(twins.example)}): {remedy}, or raise data.leak_share ({share:g})"
    )


def _repeated(hashes: Hashes) -> Hashes:
    values, counts = np.unique(hashes, return_counts=True)
    return values[counts > 1]


def _groups(parts: list[tuple[Split, Hashes]], equal: Hashes) -> tuple[str, ...]:
    """A line for each of the hashes ``equal``: the names of its pictures in ``parts``."""
    names: dict[int, list[str]] = {}
    for split, hashes in parts:
        for position in np.flatnonzero(np.isin(hashes, equal)).tolist():
            names.setdefault(int(hashes[position]), []).append(split.name(position))
    return tuple(" = ".join(group) for group in names.values())


def _contradicted(hashes: Hashes, labels: NDArray[np.int64]) -> int:
    """Pictures whose pixels stand under more than one label."""
    order = np.lexsort((labels, hashes))
    equal_hashes = hashes[order][1:] == hashes[order][:-1]
    unequal_labels = equal_hashes & (labels[order][1:] != labels[order][:-1])
    return int(np.isin(hashes, np.unique(hashes[order][1:][unequal_labels])).sum())


def _name(learnt: list[tuple[Split, Hashes]], position: int) -> str:
    for split, hashes in learnt:
        if position < len(hashes):
            return split.name(position)
        position -= len(hashes)
    raise IndexError(position)
