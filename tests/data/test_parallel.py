"""Threads must not be seen: order, errors and laziness are those of ``map``."""

from __future__ import annotations

import threading
import time

import pytest

from mldr_deploy.data.parallel import ordered_map


def test_results_keep_their_order_whatever_they_take() -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3 == 0))
        return item * item

    assert list(ordered_map(work, range(40), threads=4, ahead=8)) == [i * i for i in range(40)]


def test_an_error_comes_at_its_place_and_the_threads_end() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    results = ordered_map(work, range(10), threads=2, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_no_more_than_asked_is_taken_ahead_and_closing_stops() -> None:
    taken: list[int] = []
    results = ordered_map(lambda item: item, map(_noting(taken), range(100)), threads=2, ahead=5)
    assert next(results) == 0
    assert len(taken) == 6
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def _noting(taken: list[int]):  # type: ignore[no-untyped-def]
    def note(item: int) -> int:
        taken.append(item)
        return item

    return note
