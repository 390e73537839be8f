"""``mldr-deploy distill``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from ..pipeline.phases import Pipeline


@click.command(name="distill")
@options.carries_out
def command(pipeline: Pipeline, as_json: bool) -> None:
    """Distill the recipe's student; train its teacher first where it has no weights.

    Leaves OUT/student/trained (what `mldr-deploy export` takes), metrics.jsonl, TensorBoard events
    and curves.png. Continues where it was interrupted. `--set method.name=scratch` trains on labels
    only, `--set method.name=kd` by Hinton's distillation: what a gain is measured against; give
    each its own --out, and `--set teacher.weights=OUT/teacher/trained` to share one teacher.
    """
    trained = pipeline.student()
    if as_json:
        from ..api.json_form import json_form

        print(json_form("distill", pipeline.outcome(trained), passed=True))
    else:
        print(pipeline.line("student", trained))
