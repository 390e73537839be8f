"""``report.html`` of a choice: one file in the profiler's style, nothing fetched, no script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from ..bundle.wording import counted, figure
from ..profiler.page.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Axes
from ..profiler.page.page import pick_card
from ..profiler.page.scale import Scale, fitted, linear_ticks
from ..profiler.page.style import CSS
from ..profiler.page.svg import colour, dot, line, picture
from .choice_table import HEADER, cells, neighbours
from .verdict import StudentChoice, TableRow

_FAMILIES = ("cnn", "transformer", "mlp", "mamba")
_EXTRA = """
.names :is(th,td):nth-child(4){text-align:right}
td:last-child,th:last-child{text-align:left}
"""


def choice_page(choice: StudentChoice) -> str:
    """The whole document."""
    return "\n".join(_document(choice)) + "\n"


def _document(choice: StudentChoice) -> Iterator[str]:
    plan = choice.plan
    title = f"The student for {plan.request.budget}"
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{CSS}{_EXTRA}</style></head><body><main>"
    yield f"<h1>{escape(title)}</h1>"
    rounds = ", then ".join(
        f"{r.contenders} for {counted(r.epochs, 'epoch')}" for r in choice.rounds
    )
    measured = len(plan.entrants) + len(plan.outside)
    yield (
        f'<p class="dim">{counted(measured, "student")} measured, '
        f"{len(plan.entrants)} within the budget; trained: {rounds}. "
        f"{escape(str(plan.machine.get('processor', '')))}, "
        f"{counted(plan.machine.get('cores', 0), 'core')}.</p>"
    )
    yield from _pick(choice)
    if choice.warnings:
        items = "".join(f"<li>{escape(warning)}</li>" for warning in choice.warnings)
        yield f'<div class="warn"><ul>{items}</ul></div>'
    yield '<h2>Accuracy against cost</h2><div class="grid">'
    yield _picture(choice, "Accuracy and latency", "ms a call", lambda row: row.milliseconds)
    yield _picture(choice, "Accuracy and size", "MB", lambda row: row.megabytes)
    yield "</div><h2>Every file of every trained student</h2>"
    yield _table(choice)
    yield '<p class="dim">front: no other file of the same round is as accurate (in fp32), as fast '
    yield "and as small. Latencies were measured before training.</p>"
    yield "<h2>Either side of it</h2>" + _words(neighbours(choice))
    yield "<h2>Why not the others</h2>" + _words([*choice.dropped.items()])
    yield "</main></body></html>"


def _pick(choice: StudentChoice) -> Iterator[str]:
    row, proof = choice.row, choice.proof
    tiles = [
        (f"{proof.test_top1:.2f} %", "top-1 on the test split"),
        (f"{figure(row.milliseconds)} ms", "before training"),
        (f"{figure(proof.latency.milliseconds)} ms", "measured again, trained"),
        (f"{proof.bytes / 1e6:.2f} MB", "file"),
        (f"{row.epochs:g}", "epochs"),
    ]
    headline = f"Ship {choice.winner} in {choice.precision}"
    where = "The proven bundle is the folder bundle/ beside this page."
    yield pick_card(headline, tiles, f"{choice}. {where}")


def _picture(
    choice: StudentChoice, title: str, unit: str, cost: Callable[[TableRow], float]
) -> str:
    """Validation accuracy of the first round, where all had the same training, against a cost."""
    first = {score.name: score.top1 for score in choice.scores[0]}
    rows = [row for row in choice.table if row.name in first]
    x = fitted([cost(row) for row in rows], LEFT, RIGHT)
    y = _per_cent([first[row.name] for row in rows])
    parts = [*Axes(x, y, unit, "validation top-1 %, first round").parts()]
    limit = choice.plan.request.budget.max_ms if unit != "MB" else choice.plan.request.budget.max_mb
    if limit is not None and x.low <= limit <= x.high:
        parts.append(line(x(limit), TOP, x(limit), BOTTOM, "front"))
    for row in rows:
        shade = colour(_FAMILIES.index(row.family) if row.family in _FAMILIES else 7)
        hollow = row.precision != "fp32"
        kind = f"hollow s{shade}" if hollow else shade
        tip = f"{row.name} {row.precision}: {first[row.name]:.2f} %, {figure(cost(row))} {unit}"
        is_winner = (row.name, row.precision) == (choice.winner, choice.precision)
        parts.append(dot(x(cost(row)), y(first[row.name]), kind, tip, 7 if is_winner else 4))
    present = [name for name in _FAMILIES if any(row.family == name for row in rows)]
    keys = "".join(
        f'<span><i class="{colour(_FAMILIES.index(name))}"></i>{name}</span>' for name in present
    )
    caption = "Filled: fp32; ring: int8; large: chosen. Dashed: the budget. Up and left is better."
    return (
        f'<div class="card"><h3>{title}</h3><p>{caption}</p>{picture(HEIGHT, parts, title)}'
        f'<div class="legend">{keys}</div></div>'
    )


def _per_cent(values: list[float]) -> Scale:
    """A linear scale with room around ``values``."""
    room = max(1.0, 0.12 * (max(values) - min(values)))
    low, high = max(0.0, min(values) - room), max(values) + room
    return Scale(low, high, BOTTOM, TOP, False, linear_ticks(low, high))


def _table(choice: StudentChoice) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    body = []
    for row in choice.table:
        best = (row.name, row.precision) == (choice.winner, choice.precision)
        texts = "".join(f"<td>{escape(text)}</td>" for text in cells(row, choice))
        body.append(f'<tr class="best">{texts}</tr>' if best else f"<tr>{texts}</tr>")
    return (
        f'<div class="scroll"><table class="names"><thead><tr>{header}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _words(pairs: list[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in pairs)
    return f'<div class="scroll"><table class="words"><tbody>{rows}</tbody></table></div>'
