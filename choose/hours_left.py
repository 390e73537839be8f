"""Whether the next round is begun within --hours, by what the rounds before it took.

OUT/hours.json has a decision for each round, written before the round begins: a choice that is
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

FILE = "hours.json"
_GRACE = 1.1  # of the hours: what an hour holds is known to about a tenth


class RoundStart(BaseModel):
    """Whether a round was begun, and the figures behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    spent: float = Field(ge=0, description="Seconds of the teacher and the rounds before it.")
    expected: float = Field(ge=0, description="Seconds that it takes, by the round before it.")
    begun: bool = Field(description="Whether both are within the hours, or it is the first.")


class HoursLeft:
    """The hours of the choice in ``out``, counted by ``clock`` while a process is at it."""

    def __init__(self, out: Path, hours: float, clock: Callable[[], float] = time.monotonic):
        self._file, self._hours, self._clock = out / FILE, hours, clock
        self._starts = _read(self._file)
        before = self._starts[-1].spent if self._starts else 0.0
        self._zero = clock() - before

    def start(self, number: int, expected: float) -> RoundStart:
        """Decide on round ``number`` of ``expected`` seconds, the first being 0, or look it up."""
        if number == len(self._starts):
            spent = self._clock() - self._zero
            fits = spent + expected <= 3600 * self._hours * _GRACE
            start = RoundStart(spent=spent, expected=expected, begun=fits or number == 0)
            self._starts.append(start)
            write_json(self._file, [entry.model_dump() for entry in self._starts])
        return self._starts[number]

    def omission(self) -> str | None:
        """Why the last round that was looked at was left out, in words; None: it was not."""
        if not self._starts or self._starts[-1].begun:
            return None
        number, last = len(self._starts), self._starts[-1]
        return (
            f"round {number} was left out, so round {number - 1} decides: trainings took longer "
            f"than was measured before them, {last.spent / 3600:.3g} hours of --hours "
            f"{self._hours:g} were spent and it would take {last.expected / 3600:.3g}"
        )


def _read(file: Path) -> list[RoundStart]:
    if not file.is_file():
        return []
    try:
        return [RoundStart(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, ValidationError):
        raise MldrError(f"{file} is damaged: delete it, and the hours count anew") from None
