"""Pictures that stand twice, pixel by pixel after decoding.

A hash of 64 bits stands for a picture; among a million, two that differ share one once in 4e7 sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import MldrError
from .split import Split

Hashes = NDArray[np.uint64]  # [N]


def pixel_hash(pixels: NDArray[np.uint8]) -> int:
    """64 bits of the width and pixels of a picture, RGB [h, w, 3]; good within this process.

    Python's own hash is keyed anew in every process, and takes a sixth of BLAKE2's time at 32 px.
    """
    return hash((pixels.shape[1], pixels.tobytes())) % 2**64


@dataclass(frozen=True)
class Twins:
    """Counts of pictures that stand twice; prints no more than one example."""

    leaked: int  # pictures of test that are in train or val
    contradicted: int  # pictures of train and val that another one repeats under another label
    example: str  # the first leaked one and its twin; empty without


def find_twins(learnt: list[tuple[Split, Hashes]], test: tuple[Split, Hashes]) -> Twins:
    """Compare ``test`` with ``learnt``, train and val; each with the hashes of its pictures."""
    hashes = np.concatenate([split_hashes for _, split_hashes in learnt])
    labels = np.concatenate([split.labels for split, _ in learnt])
    leaked = np.flatnonzero(np.isin(test[1], hashes))
    example = ""
    if len(leaked):
        position = int(leaked[0])
        twin = int(np.flatnonzero(hashes == test[1][position])[0])
        example = f"{test[0].name(position)} is {_name(learnt, twin)}"
    return Twins(len(leaked), _contradicted(hashes, labels), example)


def refuse_leak(twins: Twins, tested: int, share: float) -> None:
    """Raise MldrError where more than ``share`` of the ``tested`` pictures were trained on."""
    if share < 1 and twins.leaked > share * tested:
        raise MldrError(
            f"{twins.leaked} of {tested} test pictures stand in train or validation too, pixel by "
            f"pixel ({twins.example}): remove them from one side, or raise data.leak_share "
            f"({share:g})"
        )


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
