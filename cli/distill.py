"""``mldr-deploy distill``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .console import progress


@click.command(name="distill")
@options.run_options
def command(
    recipe: str,
    overrides: tuple[str, ...],
    out: Path | None,
    device: str,
    restart: bool,
    quiet: bool,
) -> None:
    """Distill the recipe's student; train its teacher first where it has no weights.

    Leaves OUT/student/trained (what `mldr-deploy export` takes), metrics.jsonl, TensorBoard events
    and curves.png. Continues where it was interrupted. `--set method.name=scratch` trains on labels
    only, `--set method.name=kd` by Hinton's distillation: what a gain is measured against; give
    each its own --out, and `--set teacher.weights=OUT/teacher/trained` to share one teacher.
    """
    from ..pipeline.recipe import load_recipe
    from ..pipeline.stages import pipeline

    resolved = load_recipe(recipe, overrides)
    with (
        progress(quiet) as bar,
        pipeline(resolved, out, device=device, restart=restart, progress=bar) as job,
    ):
        trained = job.student()
        click.echo(job.told("student", trained))
