"""What each round may take of --hours, by what the rounds before it took.

OUT/hours.json has an entry for each round, written before the round begins: a choice that is
resumed decides nothing twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..bundle.atomic import write_json
from ..errors import MldrError
from .halving import HalvingRound

FILE = "hours.json"


class RoundStart(BaseModel):
    """A round that was begun, or that there was no time for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    spent: float = Field(ge=0, description="Seconds of the teacher and the rounds before it.")
    begun: HalvingRound | None = Field(description="The round; null: it was left out.")


class HoursLeft:
    """The hours of the choice in ``out``, counted by ``clock`` while a process is at it."""

    def __init__(self, out: Path, hours: float, clock: Callable[[], float] = time.monotonic):
        self._file, self._hours, self._clock = out / FILE, hours, clock
        self._starts = _read(self._file)
        before = self._starts[-1].spent if self._starts else 0.0
        self._zero = clock() - before

    @property
    def rounds(self) -> list[HalvingRound]:
        """Those that were begun."""
        return [start.begun for start in self._starts if start.begun is not None]

    def start(
        self, number: int, settle: Callable[[float], HalvingRound | None]
    ) -> HalvingRound | None:
        """Round ``number``, the first being 0, as ``settle`` says for the seconds left.

        What was decided before is looked up. None: the round is left out.
        """
        if number == len(self._starts):
            spent = self._clock() - self._zero
            start = RoundStart(spent=spent, begun=settle(3600 * self._hours - spent))
            self._starts.append(start)
            write_json(self._file, [entry.model_dump() for entry in self._starts])
        return self._starts[number].begun

    def omission(self) -> str | None:
        """Why the last round that was looked at was left out, in words; None: it was not."""
        if not self._starts or self._starts[-1].begun is not None:
            return None
        number, last = len(self._starts), self._starts[-1]
        return (
            f"round {number} was left out, so round {number - 1} decides: {last.spent / 3600:.3g} "
            f"hours of --hours {self._hours:g} were spent, and what is left is too short to train "
            f"the better ones longer than round {number - 1} did"
        )


def _read(file: Path) -> list[RoundStart]:
    if not file.is_file():
        return []
    try:
        return [RoundStart(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, ValidationError):
        raise MldrError(f"{file} is damaged: delete it, and the hours count anew") from None
