"""How many train how long, and who goes on."""

from __future__ import annotations

import pytest

from mldr_deploy.choose.halving import RoundScore, plan, ranking, sizes
from mldr_deploy.errors import MldrError


@pytest.mark.parametrize(
    ("contenders", "rounds"),
    [(1, [1]), (2, [2]), (3, [3, 2]), (5, [5, 2]), (12, [12, 4, 2]), (30, [30, 10, 4, 2])],
)
def test_a_third_goes_on_and_two_at_least(contenders: int, rounds: list[int]) -> None:
    assert sizes(contenders) == rounds


@pytest.mark.parametrize("seconds", [300.0, 1000.0, 5000.0, 100_000.0])
def test_the_rounds_are_in_time_whoever_goes_on(seconds: float) -> None:
    costs = [float(k) for k in range(1, 13)]
    rounds = plan(costs, 100.0, seconds, limit=10**6)
    dearest = sorted(costs, reverse=True)

    def lasts(more: int) -> float:
        epochs = [(rounds[0].epochs + more) * 3**k for k in range(len(rounds))]
        return 100 + sum(
            e * sum(dearest[: r.contenders]) for e, r in zip(epochs, rounds, strict=True)
        )

    assert lasts(0) <= seconds < lasts(1)
    assert [r.epochs for r in rounds] == [rounds[0].epochs * 3**k for k in range(len(rounds))]


def test_no_more_epochs_than_the_recipe_has() -> None:
    rounds = plan([1.0] * 12, 0.0, 1e9, limit=20)
    assert [(r.contenders, r.epochs) for r in rounds] == [(12, 2), (4, 6), (2, 18)]


def test_the_last_rounds_are_left_out_where_time_is_short() -> None:
    # One round takes 100 s; the second would take another 3 x 20 s.
    assert len(plan([10.0] * 5 + [10.0] * 5, 0.0, 150.0, limit=100)) == 1


def test_too_few_hours_say_how_many_are_needed() -> None:
    with pytest.raises(MldrError, match=r"--hours 0\.16 or more"):  # 50 + 500 s = 0.1528 h
        plan([100.0] * 5, 50.0, 540.0, limit=100)
    assert plan([100.0] * 5, 50.0, 0.16 * 3600, limit=100)[0].epochs == 1


def test_of_equals_the_faster_then_the_smaller_then_by_name() -> None:
    scores = [
        RoundScore("d", 50.0, 1.0, 10),
        RoundScore("c", 60.0, 2.0, 10),
        RoundScore("b", 60.0, 1.0, 11),
        RoundScore("a", 60.0, 1.0, 10),
        RoundScore("A", 60.0, 1.0, 10),
    ]
    for turned in (scores, scores[::-1]):
        assert [score.name for score in ranking(turned)] == ["A", "a", "b", "c", "d"]
