"""``mldr-deploy distill-and-export``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .console import progress


@click.command(name="distill-and-export")
@options.run_options
def command(
    recipe: str,
    overrides: tuple[str, ...],
    out: Path | None,
    device: str,
    restart: bool,
    quiet: bool,
) -> None:
    """The whole job: train the teacher, distill the student, export it, prove parity.

    Without arguments: the recipe `digits`, on images that come with the package. Each stage is
    skipped when its finished output already lies in --out for the same recipe, and an interrupted
    one continues from its last checkpoint, so after Ctrl-C (or kill -9) give the same command
    again.

    Ends with a table of teacher, student and artifacts: accuracy on the test split, agreement,
    size, milliseconds an image, time spent, and where everything lies. Exit code 1 when a parity
    gate fails; the bundle is written all the same, marked.

    Under `torchrun --nproc-per-node N -m mldr_deploy distill-and-export ...` or `accelerate launch`
    the training stages use all processes.
    """
    from ..pipeline.recipe import load_recipe
    from ..pipeline.stages import pipeline

    resolved = load_recipe(recipe, overrides)
    with (
        progress(quiet) as bar,
        pipeline(resolved, out, device=device, restart=restart, progress=bar) as job,
    ):
        summary = job.report()
    if summary is None:  # not the first of several processes
        return
    click.echo(str(summary))
    if not summary:
        raise click.exceptions.Exit(1)
