"""Successive halving: how many contenders train how long, and who goes on.

A round trains each of its contenders anew, with a schedule of its own that ends with it, on the
same pictures in the same order and with the same kept logits; the better third, two at least, goes
on to a round of three times the epochs. So contenders of a round are compared at the end of equal
trainings, and the last round's are ordinary runs that anybody can repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from ..bundle.wording import counted
from ..errors import MldrError

FACTOR = 3
_FINALISTS = 2


class HalvingRound(BaseModel):
    """One round: each of its contenders trains for as many epochs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contenders: int = Field(ge=1, description="How many take part.")
    epochs: int = Field(ge=1, description="How long each trains.")


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
    while rounds[-1] > _FINALISTS:
        rounds.append(max(_FINALISTS, math.ceil(rounds[-1] / FACTOR)))
    return rounds


def plan(costs: Sequence[float], fixed: float, seconds: float, limit: int) -> list[HalvingRound]:
    """The rounds for contenders with these ``costs``, seconds an epoch, within ``seconds``.

    ``fixed`` seconds go before. The epochs are the most with which every round is in time even
    where the most expensive contenders go on, and at most ``limit`` in the last round. Where that
    is less than an epoch, the last rounds are left out. Raises MldrError with the hours that one
    round takes, where there is no time for it.
    """
    dearest = sorted(costs, reverse=True)
    counts = sizes(len(dearest))
    while True:
        unit = sum(FACTOR**k * sum(dearest[:count]) for k, count in enumerate(counts))
        epochs = math.floor((seconds - fixed) / unit)
        if epochs >= 1:
            break
        if len(counts) == 1:
            hours = math.ceil((fixed + unit) / 36) / 100  # a hundredth of an hour, rounded up
            raise MldrError(
                f"{counted(len(dearest), 'student')} cannot train for one epoch each in "
                f"{seconds / 3600:.3g} hours: give --hours {hours:.2f} or more, or fewer students "
                "(--candidates)"
            )
        counts.pop()
    epochs = min(epochs, max(1, limit // FACTOR ** (len(counts) - 1)))
    return [
        HalvingRound(contenders=count, epochs=epochs * FACTOR**k) for k, count in enumerate(counts)
    ]


def ranking(scores: Sequence[RoundScore]) -> list[RoundScore]:
    """Best first: the more accurate; of equals the faster, then the smaller, then by name."""
    return sorted(scores, key=lambda s: (-s.top1, s.milliseconds, s.bytes, s.name))


def finalists(
    rounds: Sequence[HalvingRound], scores: Sequence[Sequence[RoundScore]]
) -> Sequence[RoundScore]:
    """Those of the last round that was carried out: of one that was to be followed, the better."""
    omitted = rounds[len(scores) :]
    return scores[-1][: omitted[0].contenders] if omitted else scores[-1]
