"""``mldr-deploy doctor``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from rich.table import Table

    from ..pipeline.environment import Environment


@click.command(name="doctor")
@options.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what this machine offers: versions, devices, optional packages, data sets.

    For every optional group of packages that is incomplete, the command that installs it is shown.
    Exit code 2 when something is missing that every run needs.
    """
    from ..api.json_form import json_form
    from ..pipeline.environment import inspect_environment

    environment = inspect_environment()
    if as_json:
        print(json_form("doctor", environment, passed=not environment.problems))
    else:
        _show(environment)
    for problem in environment.problems:
        print(f"Error: {problem}", file=sys.stderr)
    ctx.exit(2 if environment.problems else 0)


def _show(environment: Environment) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"Python {environment.python} on {environment.platform}\n", markup=False)
    rows = [(name, version or "missing") for name, version in environment.versions.items()]
    console.print(_table(("package", "version"), rows))
    rows = [(d.name, d.description + _memory(d.memory_gib)) for d in environment.devices]
    rows.append(("tensorrt", environment.tensorrt))
    console.print(_table(("device", "what it is"), rows))
    rows = []
    for extra in environment.extras:
        if extra.missing:
            rows += [(extra.name, f"missing {', '.join(extra.missing)}"), ("", extra.install)]
        else:
            rows.append((extra.name, "complete"))
    console.print(_table(("extra", "state"), rows))
    rows = [
        (name, folder or f"not in {environment.data_root}")
        for name, folder in environment.data_sets.items()
    ]
    console.print(_table(("data set", "where"), rows))


def _memory(gib: float | None) -> str:
    return "" if gib is None else f", {gib} GiB"


def _table(header: tuple[str, str], rows: list[tuple[str, str]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(header[0], no_wrap=True)
    table.add_column(header[1], overflow="fold")
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    table.add_row("", "")
    return table
