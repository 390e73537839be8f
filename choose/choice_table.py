"""A choice as Markdown, for people and for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from ..bundle.wording import figure
from .verdict import StudentChoice, TableRow

HEADER = (
    *("student", "family", "precision", "ms", "MB", "epochs", "val top-1 %", "test top-1 %"),
    "",
)


def choice_table(choice: StudentChoice) -> str:
    """The verdict, the table, why others were dropped, and the warnings."""
    return "\n".join(_lines(choice)) + "\n"


def cells(row: TableRow, choice: StudentChoice) -> list[str]:
    """The row's cells, in the order of ``HEADER``."""
    marks = []
    if (row.name, row.precision) == (choice.winner, choice.precision):
        marks.append("chosen")
    if row.front:
        marks.append("front")
    if row.excess is not None:
        marks.append("over the budget")
    test = "-" if row.test_top1 is None else f"{row.test_top1:.2f}"
    costs = [figure(row.milliseconds), f"{row.megabytes:.2f}", f"{row.epochs:g}"]
    return [
        row.name,
        row.family,
        row.precision,
        *costs,
        f"{row.val_top1:.2f}",
        test,
        ", ".join(marks),
    ]


def neighbours(choice: StudentChoice) -> list[tuple[str, str]]:
    """What lies on either side of the winner: (title, words)."""
    return [
        ("The next faster", choice.next_faster or "none of those that were trained"),
        ("The next more accurate", choice.next_more_accurate or "none that was measured"),
    ]


def _lines(choice: StudentChoice) -> Iterator[str]:
    yield f"{choice}."
    yield ""
    yield _line(HEADER)
    yield _line(["---"] * 3 + ["---:"] * 5 + ["---"])
    for row in choice.table:
        yield _line(cells(row, choice))
    yield ""
    yield "front: no other file of the same round is as accurate (in fp32), as fast and as small."
    yield ""
    for title, words in neighbours(choice):
        yield f"- {title}: {words}."
    yield ""
    yield "Why not the others:"
    yield ""
    for name, reason in choice.dropped.items():
        yield f"- {name}: {reason}"
    if choice.warnings:
        yield ""
        yield from (f"Warning: {warning}." for warning in choice.warnings)


def _line(texts: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(texts)} |"
