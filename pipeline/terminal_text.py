"""Text of any kind, Markdown too, for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from itertools import groupby

from .narrow_table import WIDTH, narrow_table


def terminal_text(text: object, hang: int = 0) -> str:
    """``text`` with tables of Markdown made narrow and long lines wrapped by `wrapped`."""
    lines = str(text).splitlines()
    blocks = groupby(lines, key=lambda line: line.startswith("|"))
    return "\n".join(
        _table(block) if is_table else _prose(block, hang) for is_table, block in blocks
    )


def wrapped(line: str, hang: int = 0) -> str:
    """``line`` in lines of at most 80 characters; long words, paths among them, stay whole.

    What follows the first line stands ``hang`` to the right of it, and of its dash where it has
    one.
    """
    body = line.lstrip(" ").removeprefix("- ")
    indent = len(line) - len(body)
    return textwrap.fill(
        line,
        WIDTH,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _prose(lines: Iterable[str], hang: int) -> str:
    return "\n".join(line if len(line) <= WIDTH else wrapped(line, hang) for line in lines)


def _table(lines: Iterable[str]) -> str:
    header, _, *rows = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in lines)
    return narrow_table(header, rows).strip("\n") if rows else " | ".join(header)
