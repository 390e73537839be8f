"""``mldr-deploy train-teacher``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .console import progress


@click.command(name="train-teacher")
@options.run_options
def command(
    recipe: str,
    overrides: tuple[str, ...],
    out: Path | None,
    device: str,
    restart: bool,
    quiet: bool,
) -> None:
    """Train the recipe's teacher on labels, where no finished weights are at hand.

    Leaves OUT/teacher/trained, which `--set teacher.weights=` of another run takes. The keys
    teacher.train, teacher.optimizer, teacher.schedule and teacher.augment say how; with
    teacher.weights and teacher.fresh_head=true a pretrained model is fine-tuned. Continues where it
    was interrupted.
    """
    from ..pipeline.recipe import load_recipe
    from ..pipeline.stages import pipeline

    resolved = load_recipe(recipe, overrides)
    with (
        progress(quiet) as bar,
        pipeline(resolved, out, device=device, restart=restart, progress=bar) as job,
    ):
        trained = job.teacher()
        click.echo(job.told("teacher", trained))
