"""Progress bars on a terminal and in a notebook, lines elsewhere.

rich is imported inside functions: ``mldr-deploy --help`` does without it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..bundle.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar


@contextmanager
def bars(quiet: bool = False) -> Iterator[Progress]:
    """The ``Progress`` of a command: a live bar on a terminal, one line a task elsewhere.

    Everything goes to standard error; standard output is for results.
    """
    if quiet:
        yield Silent()
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    bar = LiveProgress(console) if _is_live(console) else LineProgress(console)
    try:
        yield bar
    finally:
        bar.finish()


@contextmanager
def shown(progress: Progress | None) -> Iterator[Progress]:
    """``progress``; of None, bars or lines where a person is looking, and nothing elsewhere."""
    from rich.console import Console

    if progress is not None:
        yield progress
        return
    console = Console(stderr=True)
    with bars(quiet=not (console.is_terminal or console.is_jupyter)) as bar:
        yield bar


def _is_live(console: Console) -> bool:
    """Whether a bar can move there; in a notebook ipywidgets move it."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


_LINE_SECONDS = 60.0  # between two lines of one long task


class LineProgress:
    """For logs and pipes: a line a minute, and one when a task is over, with its last figures."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name: str | None = None

    def start(self, name: str, total: int | None) -> None:
        self.finish()
        self._name, self._total, self._count = name, total, 0
        self._info: dict[str, float | str] = {}
        self._began = self._line_time = time.monotonic()

    def advance(self, n: int = 1, **info: float | str) -> None:
        self._count += n
        self._info |= info
        if self._name is not None and time.monotonic() - self._line_time >= _LINE_SECONDS:
            self._tell()

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
        self._line_time = time.monotonic()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class LiveProgress:
    """For terminals: one bar with count, figures by name, and the time left."""

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
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        console=console,
    )


def _figures(info: dict[str, float | str]) -> str:
    """``loss 1.234  img/s 812``: figures by name, four significant digits."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in info.items()
    )
