"""``mldr-deploy train-teacher``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from ..pipeline.phases import Pipeline


@click.command(name="train-teacher")
@options.carries_out
def command(pipeline: Pipeline, as_json: bool) -> None:
    """Train the recipe's teacher on labels, where no finished weights are at hand.

    Leaves OUT/teacher/trained, which `--set teacher.weights=` of another run takes. The keys
    teacher.train, teacher.optimizer, teacher.schedule and teacher.augment say how; with
    teacher.weights and teacher.fresh_head=true a pretrained model is fine-tuned. Continues where it
    was interrupted.
    """
    trained = pipeline.teacher()
    if as_json:
        from ..api.json_form import json_form

        print(json_form("train-teacher", pipeline.outcome(trained), passed=True))
    else:
        print(pipeline.line("teacher", trained))
