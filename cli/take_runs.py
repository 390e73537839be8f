"""``mldr-deploy take-runs``: a process of `--jobs`; hidden from help."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import click

from . import options
from .console import progress


@click.command(name="take-runs")
@click.argument("folder", type=click.Path(path_type=Path))  # tells processes apart
@options.device
def command(folder: Path, device: str) -> None:
    """Carry out the runs that the parent process hands over on standard input."""
    from ..compare.recent_data import RecentData
    from ..compare.workers import work

    del folder
    order = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    if not order:
        raise click.UsageError("processes of compare and choose are started by --jobs alone.")
    units = pickle.loads(order)  # from the parent, through its pipe
    with progress(quiet=False) as bar:
        work(units, device=device, data=RecentData(), progress=bar)
