"""Whether another order of a teacher's outputs explains the labels better than the one it is given.

N pictures, C classes. Orders that people meet (natural, sorted) are tried on all pictures. Any
other is fitted by assignment on one half and tried on the other, both ways, so that what is told
of it was not fitted to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..bundle.mcnemar import mcnemar_exact
from ..models.class_order import Order, OrderName, output_order

Labels = NDArray[np.int64]  # [N]

# Largest p of the exact McNemar test: of an order that people meet, and of any other.
_NAMED, _FITTED = 1e-2, 1e-3
_RATIO = 1.5  # pictures gained to pictures lost, at least
_MOST_CLASSES = 3000  # the assignment takes C x C memory and C^3 time


@dataclass(frozen=True)
class BetterOrder:
    """An order of the outputs that explains the labels significantly better."""

    name: str  # natural, sorted, or empty for one that only the labels tell
    order: Order
    top1: float  # per cent of the pictures, measured where it was not fitted

    def names(self, classes: Sequence[str]) -> list[str]:
        """The classes in the order of the teacher's outputs."""
        return [classes[int(c)] for c in np.argsort(self.order)]


def better_order(outputs: Labels, labels: Labels, classes: Sequence[str]) -> BetterOrder | None:
    """The order that explains ``labels`` best where it is significantly better than the given.

    ``outputs``: the teacher's largest output for each picture.
    """
    current = outputs == labels
    candidates = []
    for name in get_args(OrderName):
        order = output_order(name, classes)
        right = np.argsort(order)[outputs] == labels
        if _explains(right, current, _NAMED):
            candidates.append(BetterOrder(name, order, 100 * float(right.mean())))
    if len(classes) <= _MOST_CLASSES:
        right = _cross_fitted(outputs, labels, len(classes))
        best_top1 = max((order.top1 for order in candidates), default=0.0)
        if _explains(right, current, _FITTED) and 100 * right.mean() > best_top1 + 5:
            fitted = _assigned(outputs, labels, len(classes))
            candidates.append(BetterOrder("", fitted, 100 * float(right.mean())))
    return max(candidates, key=lambda order: order.top1, default=None)


def _explains(right: NDArray[np.bool_], current: NDArray[np.bool_], alpha: float) -> bool:
    gained, lost = int((right & ~current).sum()), int((current & ~right).sum())
    return gained >= _RATIO * lost and gained > 0 and mcnemar_exact(lost, gained) <= alpha


def _cross_fitted(outputs: Labels, labels: Labels, classes: int) -> NDArray[np.bool_]:
    """Whether each picture is right under the order fitted to the half that it is not in."""
    half = np.empty(len(labels), np.int64)
    by_class = np.argsort(labels, kind="stable")
    half[by_class] = np.arange(len(labels)) % 2
    right = np.empty(len(labels), np.bool_)
    for side in (0, 1):
        judged, fitted = half == side, half != side
        order = _assigned(outputs[fitted], labels[fitted], classes)
        right[judged] = np.argsort(order)[outputs[judged]] == labels[judged]
    return right


def _assigned(outputs: Labels, labels: Labels, classes: int) -> Order:
    """The order that makes the most pictures right; where several do, outputs stay in place."""
    from scipy.optimize import linear_sum_assignment

    pairs = np.zeros((classes, classes))
    np.add.at(pairs, (labels, outputs), 1.0)
    pairs += np.eye(classes) / (classes + 1)
    order: Order = linear_sum_assignment(pairs, maximize=True)[1].astype(np.int64)
    return order
