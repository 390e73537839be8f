"""Successive halving: how many contenders train how long, and who goes on.

A round trains each of its contenders anew, with a schedule of its own that ends with it, on the
same pictures in the same order and with the same kept logits; the better third, two at least, goes
on to a round of about three times the epochs, the last of which takes the time that is left. So
contenders of a round are compared at the end of equal trainings, and the last round's are ordinary
runs that anybody can repeat.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from ..bundle.wording import counted
from ..errors import MldrError

FACTOR = 3
FINALISTS = 2


class HalvingRound(BaseModel):
    """One round: each of its contenders trains for as many epochs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contenders: int = Field(ge=1, description="How many take part.")
    epochs: float = Field(gt=0, description="How long each trains; parts of one count.")


@dataclass(frozen=True)
class RoundScore:
    """What decides among the contenders of a round. Every figure is on record."""

    name: str
    top1: float  # validation, per cent
    milliseconds: float  # of its fastest file within the budget
    bytes: int  # of that file


def sizes(contenders: int) -> list[int]:
    """How many contenders each round has, if there is time for all rounds."""
    rounds = [contenders]
    while rounds[-1] > FINALISTS:
        rounds.append(max(FINALISTS, math.ceil(rounds[-1] / FACTOR)))
    return rounds


def together(seconds: Iterable[float], jobs: int) -> float:
    """What trainings of these ``seconds`` take, ``jobs`` at a time, the longest begun first."""
    ends = [0.0] * jobs
    for duration in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def fitting(
    costs: Sequence[float], seconds: float, limit: int, jobs: int = 1, least: float = 1.0
) -> list[HalvingRound] | None:
    """The rounds for contenders with these ``costs``, seconds an epoch, within ``seconds``.

    ``jobs`` train at a time. The epochs are the most with which every round is in time even where
    the most expensive contenders go on, and at most ``limit`` in the last round. Where the first
    round would have fewer than ``least``, the last ones are left out; None: not even one fits.
    """
    dearest = sorted(costs, reverse=True)
    counts = sizes(len(dearest))
    while counts:
        unit = sum(FACTOR**k * together(dearest[:count], jobs) for k, count in enumerate(counts))
        epochs = _rounded(min(seconds / unit, max(1, limit // FACTOR ** (len(counts) - 1))))
        if epochs >= least:
            return [
                HalvingRound(contenders=count, epochs=_rounded(epochs * FACTOR**k))
                for k, count in enumerate(counts)
            ]
        counts.pop()
    return None


def _rounded(epochs: float) -> float:
    """Whole epochs, or hundredths of one; never more than ``epochs``."""
    return math.floor(epochs) if epochs >= 1 else math.floor(100 * epochs + 1e-9) / 100


def plan(
    costs: Sequence[float], fixed: float, seconds: float, limit: int, jobs: int, least: float
) -> list[HalvingRound]:
    """The rounds that `fitting` says, where ``fixed`` seconds go before.

    Raises MldrError with the hours that one round takes, where there is no time for it.
    """
    least = math.ceil(100 * least - 1e-9) / 100  # as epochs are rounded
    rounds = fitting(costs, seconds - fixed, limit, jobs, least)
    if rounds is not None:
        return rounds
    shortest = fixed + least * together(costs, jobs)
    hours = math.ceil(shortest / 36) / 100  # a hundredth of an hour, rounded up
    raise MldrError(
        f"{counted(len(costs), 'student')} cannot train for {counted(least, 'epoch')} each in "
        f"{seconds / 3600:.3g} hours: give --hours {hours:.2f} or more, or fewer students "
        "(--candidates)"
    )


def ranking(scores: Sequence[RoundScore]) -> list[RoundScore]:
    """Best first: the more accurate; of equals the faster, then the smaller, then by name."""
    return sorted(scores, key=lambda s: (-s.top1, s.milliseconds, s.bytes, s.name))


def better(standing: Sequence[RoundScore]) -> Sequence[RoundScore]:
    """Those of a ranking that go on: the better third, two at least."""
    return standing[: max(FINALISTS, math.ceil(len(standing) / FACTOR))]


def furthest(scores: Sequence[Sequence[RoundScore]]) -> list[tuple[RoundScore, int]]:
    """Each student's score in its last round, with that round's number; the best first."""
    last: dict[str, tuple[RoundScore, int]] = {}
    for number, standing in enumerate(scores):
        for score in standing:
            last[score.name] = score, number
    order = {name: place for place, (name, _) in enumerate(last.items())}
    return sorted(last.values(), key=lambda pair: (-pair[1], -pair[0].top1, order[pair[0].name]))
