"""Tables that fit a terminal of 80 columns, as text: words are wrapped, figures never."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH = 80
_WORDS = 12  # of a column that can be wrapped, at least, where it has as many
_GAP = 2  # of every column: one space before it, one behind it
_FIGURE = re.compile(r"[*+-]*\d|-?$")


@dataclass(frozen=True)
class _Column:
    name: str
    cells: Sequence[str]

    @property
    def figures(self) -> bool:
        """Whether it is set flush right and never wrapped; nothing and `-` are figures too."""
        return any(self.cells) and all(_FIGURE.match(cell) for cell in self.cells)

    @property
    def heading(self) -> str:
        """A heading of two words takes two lines over figures."""
        return self.name.replace(" ", "\n") if self.figures else self.name

    @property
    def least(self) -> int:
        """Characters that it needs, its gap among them."""
        heading, cells = max(map(len, self.name.split()), default=0), max(map(len, self.cells))
        return max(heading, cells if self.figures else min(cells, _WORDS)) + _GAP


def narrow_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """``rows``, one at least, under the headings ``names``; an empty line before and after.

    Columns of figures are set flush right, others flush left and wrapped to what room is left.
    Columns that have no room at all follow in a table below, which begins with the first again. A
    column with nothing in it is left out.
    """
    first, *others = (_Column(name, cells) for name, *cells in zip(names, *rows, strict=True))
    columns = [first, *(column for column in others if any(column.cells))]
    parts = "\n\n".join(_text(part) for part in _parts(columns))
    return f"\n{parts}\n"


def _parts(columns: Sequence[_Column]) -> Iterator[list[_Column]]:
    """The columns of one table after the other; each begins with the first column."""
    first, *others = columns
    part = [first]
    for column in others:
        if len(part) > 1 and sum(c.least for c in (*part, column)) > WIDTH:
            yield part
            part = [first]
        part.append(column)
    yield part


def _text(columns: Sequence[_Column]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.figures else "left",
            no_wrap=column.figures,
            overflow="fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=WIDTH, highlight=False, markup=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")
