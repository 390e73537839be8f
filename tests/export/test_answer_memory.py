"""What is asked twice is computed once, and nothing else is answered from memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mldr_deploy.export.answer_memory import AnswerMemory


class Doubling:
    """A runner that counts what it computes."""

    def __init__(self) -> None:
        self.batches = 0

    def __call__(self, inputs: Any) -> Any:
        self.batches += 1
        return 2 * inputs.reshape(len(inputs), -1)


IMAGES = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)


def test_the_same_bytes_are_asked_once_through_whatever_predictor() -> None:
    memory, first, second = AnswerMemory(), Doubling(), Doubling()
    expected = 2 * IMAGES.reshape(2, -1)
    answer = memory.through(first)(IMAGES)
    answer[:] = np.nan  # the caller's own copy
    assert np.array_equal(memory.through(second)(IMAGES.copy()), expected)
    assert (first.batches, second.batches) == (1, 0)


@pytest.mark.parametrize(
    "changed",
    [
        IMAGES[:1],
        IMAGES[::-1],
        IMAGES.transpose(0, 1, 3, 2),
        IMAGES.reshape(4, 3, 2, 1),
        np.nextafter(IMAGES, np.float32(np.inf)),
    ],
)
def test_anything_else_is_computed(changed: Any) -> None:
    memory, runner = AnswerMemory(), Doubling()
    memory.through(runner)(IMAGES)
    answer = memory.through(runner)(changed)
    assert np.array_equal(answer, 2 * changed.reshape(len(changed), -1))
    assert runner.batches == 2


def test_beyond_its_room_it_computes_again() -> None:
    memory, runner = AnswerMemory(limit=2 * IMAGES.nbytes - 1), Doubling()
    for images in (IMAGES, -IMAGES, IMAGES, -IMAGES):
        assert np.array_equal(memory.through(runner)(images), 2 * images.reshape(2, -1))
    assert runner.batches == 3
