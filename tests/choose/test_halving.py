"""How many train how long, and who goes on."""

from __future__ import annotations

import pytest

from mldr_deploy.choose.halving import RoundScore, better, fitting, plan, ranking, sizes, together
from mldr_deploy.errors import MldrError


@pytest.mark.parametrize(
    ("contenders", "rounds"),
    [(1, [1]), (2, [2]), (3, [3, 2]), (5, [5, 2]), (12, [12, 4, 2]), (30, [30, 10, 4, 2])],
)
def test_a_third_goes_on_and_two_at_least(contenders: int, rounds: list[int]) -> None:
    assert sizes(contenders) == rounds


def test_trainings_side_by_side() -> None:
    """Counted by hand: 7 + 4 beside 6 + 5 beside 9."""
    assert together([4.0, 5.0, 6.0, 7.0, 9.0], 3) == 11.0
    assert together([3.0, 1.0, 2.0], 1) == 6.0
    assert together([3.0, 1.0], 8) == 3.0


def test_side_by_side_there_is_time_for_more_epochs() -> None:
    one, two = (plan([10.0] * 12, 100.0, 5000.0, 10**6, jobs, 1.0) for jobs in (1, 2))
    assert [r.epochs for r in one] == [11, 33, 99]  # 120 + 120 + 180 s for each of the first
    assert [r.epochs for r in two] == [23, 69, 207]  # half of it


@pytest.mark.parametrize("seconds", [300.0, 1000.0, 5000.0, 100_000.0])
def test_the_rounds_are_in_time_whoever_goes_on(seconds: float) -> None:
    costs = [float(k) for k in range(1, 13)]
    rounds = plan(costs, 100.0, seconds, 10**6, 1, 1.0)
    dearest = sorted(costs, reverse=True)

    def lasts(more: int) -> float:
        epochs = [(rounds[0].epochs + more) * 3**k for k in range(len(rounds))]
        return 100 + sum(
            e * sum(dearest[: r.contenders]) for e, r in zip(epochs, rounds, strict=True)
        )

    assert lasts(0) <= seconds < lasts(1)
    assert [r.epochs for r in rounds] == [rounds[0].epochs * 3**k for k in range(len(rounds))]


def test_no_more_epochs_than_the_recipe_has() -> None:
    rounds = plan([1.0] * 12, 0.0, 1e9, 20, 1, 1.0)
    assert [(r.contenders, r.epochs) for r in rounds] == [(12, 2), (4, 6), (2, 18)]


def test_the_last_rounds_are_left_out_where_time_is_short() -> None:
    # One round takes 100 s; the second would take another 3 x 20 s.
    assert len(plan([10.0] * 5 + [10.0] * 5, 0.0, 150.0, 100, 1, 1.0)) == 1


def test_rounds_begin_with_parts_of_an_epoch_rather_than_being_left_out() -> None:
    """A quarter of an epoch is allowed: 100 + 120 + 180 s take one, and there are 150."""
    rounds = plan([10.0] * 10, 0.0, 150.0, 100, 1, 0.25)
    assert [(r.contenders, r.epochs) for r in rounds] == [(10, 0.37), (4, 1), (2, 3)]
    assert fitting([10.0] * 10, 20.0, 100, least=0.25) is None
    with pytest.raises(MldrError, match=r"cannot train for 0\.25 epochs each in 0\.00556 hours"):
        plan([10.0] * 10, 0.0, 20.0, 100, 1, 0.25)


@pytest.mark.parametrize(("count", "going_on"), [(1, 1), (2, 2), (3, 2), (12, 4)])
def test_the_better_third_of_a_ranking(count: int, going_on: int) -> None:
    standing = [RoundScore(str(k), 90.0 - k, 1.0, 1) for k in range(count)]
    assert better(standing) == standing[:going_on]


def test_too_few_hours_say_how_many_are_needed() -> None:
    with pytest.raises(MldrError, match=r"--hours 0\.16 or more"):  # 50 + 500 s = 0.1528 h
        plan([100.0] * 5, 50.0, 540.0, 100, 1, 1.0)
    assert plan([100.0] * 5, 50.0, 0.16 * 3600, 100, 1, 1.0)[0].epochs == 1


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


@pytest.mark.parametrize("least", [1.0, 0.28444444444444444, 100 * 64 / 45000])
@pytest.mark.parametrize("cost", [7.0, 196.3, 981.0])
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_hours_that_are_advised_are_enough(least: float, cost: float, jobs: int) -> None:
    costs = [cost] * 12
    with pytest.raises(MldrError) as refused:
        plan(costs, 660.0, 1.0, 40, jobs, least)
    hours = float(str(refused.value).partition("--hours ")[2].split()[0])
    assert plan(costs, 660.0, 3600 * hours, 40, jobs, least)
    assert "0.28444" not in str(refused.value)
