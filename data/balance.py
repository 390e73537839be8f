"""Classes of unequal size, each drawn equally often.

N labelled pictures of C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def imbalance(labels: NDArray[np.int64]) -> float:
    """How many times as many pictures the largest class has as the smallest that has any."""
    counts = np.unique(labels, return_counts=True)[1]
    return float(counts.max() / counts.min())


def balanced_order(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """N positions, shuffled, that hold every class equally often, to one picture.

    No picture of a class comes again before all of that class have come: a large class gives a
    part of its pictures, a small class gives them several times.
    """
    classes = rng.permutation(np.unique(labels))  # the first ones take what cannot be shared
    shares = np.full(len(classes), len(labels) // len(classes))
    shares[: len(labels) % len(classes)] += 1
    drawn = []
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-int(share) // len(members)))]
        drawn.append(np.concatenate(rounds)[:share])
    return rng.permutation(np.concatenate(drawn))


def repetitions(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each of N positions came before in ``order``; 0 where none comes twice."""
    grouped = np.argsort(order, kind="stable")
    begins = np.r_[True, np.diff(order[grouped]) != 0]
    places = np.arange(len(order))
    first = np.maximum.accumulate(np.where(begins, places, 0))
    counts = np.empty_like(order)
    counts[grouped] = places - first
    return counts
