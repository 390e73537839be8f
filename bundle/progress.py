"""How library code tells a person that it is getting on: it never prints, it reports here."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One task at a time: ``start``, any number of ``advance``, ``finish``; ``note`` anywhere."""

    def start(self, name: str, total: int | None) -> None:
        """Begin the task ``name`` of ``total`` units (None: not known)."""

    def advance(self, n: int = 1, **info: float | str) -> None:
        """``n`` more units are done; ``info`` is shown beside the bar (losses, img/s)."""

    def finish(self) -> None:
        """The task is over, complete or not."""

    def note(self, text: str) -> None:
        """One line worth keeping after the bar is gone."""


class Silent:
    """The ``Progress`` of tests and of callers who do not care."""

    def start(self, name: str, total: int | None) -> None:
        """Say nothing."""

    def advance(self, n: int = 1, **info: float | str) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""
