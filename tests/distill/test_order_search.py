"""Which order of a teacher's outputs explains the labels: synthetic teachers of known accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mldr_deploy.distill.order_search import better_order
from mldr_deploy.models.class_order import output_order

Ints = NDArray[np.int64]


def answers(count: int, classes: int, accuracy: float, seed: int) -> tuple[Ints, Ints]:
    """(what a teacher of this accuracy takes ``count`` balanced pictures for, their labels)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    wrong = (labels + rng.integers(1, classes, count)) % classes
    return np.where(rng.random(count) < accuracy, labels, wrong), labels


def names(classes: int) -> list[str]:
    return sorted(str(n) for n in range(1, classes + 1))


@pytest.mark.parametrize(
    ("classes", "count", "accuracy"),
    [(12, 120, 0.9), (12, 600, 0.4), (10, 60, 0.95), (100, 1000, 0.6), (11, 200, 0.7)],
)
def test_timms_numbering_is_recognised(classes: int, count: int, accuracy: float) -> None:
    taken, labels = answers(count, classes, accuracy, seed=1)
    order = output_order("natural", names(classes))
    found = better_order(order[taken], labels, names(classes))
    assert found is not None and found.name == "natural"
    assert found.top1 == pytest.approx(100 * (taken == labels).mean())
    assert found.names(names(classes)) == [str(n) for n in range(1, classes + 1)]


def test_case_counts_too() -> None:
    """ "Zebra" comes before "ape" by code points, after it in timm."""
    classes = ["Dog", "Zebra", "ape", "cat"]
    taken, labels = answers(80, 4, 0.9, seed=2)
    found = better_order(output_order("natural", classes)[taken], labels, classes)
    assert found is not None and found.names(classes) == ["ape", "cat", "Dog", "Zebra"]


@pytest.mark.parametrize("moved", [2, 5, 20])
def test_any_other_order_is_found_also_where_most_classes_agree(moved: int) -> None:
    classes = [f"c{n:02}" for n in range(20)]
    taken, labels = answers(600, 20, 0.85, seed=3)
    order = np.arange(20)
    order[:moved] = np.roll(order[:moved], 1)
    found = better_order(order[taken], labels, classes)
    assert found is not None and found.name == ""
    assert found.order.tolist() == order.tolist()
    assert found.top1 > 75


@pytest.mark.parametrize("accuracy", [0.1, 0.12, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_teacher_in_the_datas_order_is_left_alone(accuracy: float, seed: int) -> None:
    for count, classes in ((40, 4), (200, 10), (500, 10), (1000, 100)):
        taken, labels = answers(count, classes, accuracy, seed)
        assert better_order(taken, labels, names(classes)) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_teacher_that_names_few_classes_is_left_alone(seed: int) -> None:
    """As after one epoch: two classes take nearly all pictures."""
    rng = np.random.default_rng(seed)
    labels = np.arange(500) % 10
    taken = np.where(rng.random(500) < 0.1, labels, rng.integers(3, 5, 500))
    assert better_order(taken, labels, names(10)) is None
