"""Tables that fit a terminal of 80 columns, as text: long names are wrapped, figures never."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

WIDTH = 80


def narrow_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """``rows`` under the headings ``names``; the first column is wrapped to what room is left.

    A heading of two words takes two lines. The last column is set flush left, as words are.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(names[0], overflow="fold")
    for name in names[1:-1]:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    table.add_column(names[-1], no_wrap=True)
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=WIDTH, highlight=False, markup=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
