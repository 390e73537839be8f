"""The line through the last batches, against numpy's own fit and by its limits."""

from __future__ import annotations

import numpy as np
import pytest

from mldr_deploy.serve.batch_cost import BatchCost


def test_nothing_is_known_before_a_batch() -> None:
    cost = BatchCost()
    assert not cost.measured and cost.seconds(64) == 0
    cost.add(4, 2.0)
    assert cost.measured


def test_batches_of_one_size_give_a_time_for_each_image() -> None:
    cost = BatchCost()
    for _ in range(3):
        cost.add(4, 2.0)
    assert [cost.seconds(n) for n in (1, 4, 64)] == pytest.approx([0.5, 2.0, 32.0])


def test_the_line_is_that_of_least_squares() -> None:
    batches = [(1, 0.7), (30, 2.0), (8, 0.9), (64, 4.1), (2, 0.6)]
    cost = BatchCost()
    for images, seconds in batches:
        cost.add(images, seconds)
    points = np.array([(0, 0), *batches])
    weights = np.array([0.1, *(0.8 ** np.arange(4, -1, -1))])
    line = np.polyfit(points[:, 0], points[:, 1], 1, w=np.sqrt(weights))
    sizes = [1, 5, 64]
    assert [cost.seconds(n) for n in sizes] == pytest.approx(np.polyval(line, sizes))


def test_larger_batches_take_no_less_and_their_images_no_more() -> None:
    for large in (0.1, 100.0):  # against 1 s for an image: a stall, or memory that runs out
        cost = BatchCost()
        cost.add(1, 1.0)
        cost.add(10, large)
        assert cost.seconds(1) <= cost.seconds(2) <= cost.seconds(64)
        assert cost.seconds(64) / 64 <= cost.seconds(2) / 2 <= cost.seconds(1)


def test_one_stall_is_soon_forgotten() -> None:
    cost = BatchCost()
    cost.add(1, 1000.0)
    for _ in range(40):
        cost.add(1, 0.01)
    assert cost.seconds(1) < 0.1
