"""Progress bars on a terminal, lines elsewhere.

rich is imported inside functions: ``mldr-deploy --help`` does without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..bundle.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar


@contextmanager
def bars(quiet: bool = False) -> Iterator[Progress]:
    """The ``Progress`` of a command: a live bar on a terminal, lines now and then elsewhere.

    Everything goes to standard error; standard output is for results.
    """
    if quiet:
        yield Silent()
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    redrawn = console.is_terminal and not _in_notebook()  # its cells are not redrawn
    bar = LiveProgress(console) if redrawn else LineProgress(console)
    try:
        yield bar
    finally:
        bar.finish()


@contextmanager
def shown_to_people(progress: Progress | None) -> Iterator[Progress]:
    """``progress``; for None what `bars` gives in a terminal or notebook, and nothing elsewhere."""
    from rich.console import Console

    if progress is not None:
        yield progress
        return
    with bars(quiet=not (Console(stderr=True).is_terminal or _in_notebook())) as bar:
        yield bar


def _in_notebook() -> bool:
    return "JPY_PARENT_PID" in os.environ


_FIRST_SECONDS, _LINE_SECONDS = 5.0, 60.0  # until a long task's first line; between later ones


class LineProgress:
    """For logs, pipes and notebooks: a line after seconds, then a minute at most between two.

    And one when a task is over, with its last figures.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name: str | None = None

    def start(self, name: str, total: int | None) -> None:
        self.finish()
        self._name, self._total, self._count = name, total, 0
        self._info: dict[str, float | str] = {}
        self._began, self._pause = time.monotonic(), _FIRST_SECONDS
        self._due = self._began + self._pause

    def advance(self, n: int = 1, **info: float | str) -> None:
        self._count += n
        self._info |= info
        if self._name is not None and time.monotonic() >= self._due:
            self._tell()
            self._pause = min(2 * self._pause, _LINE_SECONDS)
            self._due = time.monotonic() + self._pause

    def finish(self) -> None:
        if self._name is not None:
            self._tell()
        self._name = None

    def _tell(self) -> None:
        of = "" if self._total in (None, self._count) else f"/{self._total}"
        count = f"{self._count}{of} in " if self._count or of else ""
        seconds = time.monotonic() - self._began
        line = f"{self._name}: {count}{seconds:.1f} s  {_figures(self._info)}"
        self.note(line.rstrip())

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class LiveProgress:
    """For terminals: one bar with count and the time left, and below it the figures by name."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Bar | None = None

    def start(self, name: str, total: int | None) -> None:
        self.finish()
        self._info: dict[str, float | str] = {}
        self._bar = _bar(self._console)
        self._task = self._bar.add_task(name, total=total, figures="")
        self._bar.start()

    def advance(self, n: int = 1, **info: float | str) -> None:
        if self._bar is not None:
            self._info |= info
            self._bar.update(self._task, advance=n, figures=_figures(self._info))

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def _bar(console: Console) -> Bar:
    from rich.console import RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class BarAndFigures(Progress):
        """Figures have lines of their own: beside the bar 80 columns are too few."""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                if figures := task.fields["figures"]:
                    yield Text(f"  {figures}")

    return BarAndFigures(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _figures(info: dict[str, float | str]) -> str:
    """``loss 1.234  img/s 812``: figures by name, four significant digits."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in info.items()
    )
