"""``mldr-deploy distill-and-export``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from ..pipeline.phases import Pipeline


@click.command(name="distill-and-export")
@options.carries_out
def command(pipeline: Pipeline, as_json: bool) -> None:
    """The whole job: train the teacher, distill the student, export it, prove parity.

    Without arguments: the recipe `digits`, on images that come with the package. Each stage is
    skipped when its finished output already lies in --out for the same recipe, and an interrupted
    one continues from its last checkpoint, so after Ctrl-C (or kill -9) give the same command
    again.

    Ends with a table of teacher, student and artifacts: accuracy on the test split, agreement,
    size, milliseconds an image, time spent, and where everything lies. Exit code 1 when a parity
    gate fails; the bundle is written all the same, marked. So is a student that is no better than
    always naming the largest class, which `check`, `serve`, `demo` and `profile` refuse.

    Under `torchrun --nproc-per-node N -m mldr_deploy distill-and-export ...` or `accelerate launch`
    the training stages use all processes.
    """
    from ..pipeline.summary import report

    summary = report(pipeline)
    if summary is None:  # not the first of several processes
        return
    if as_json:
        from ..api.json_form import json_form

        print(json_form("distill-and-export", summary, passed=bool(summary)))
    else:
        print(summary)
    if not summary:
        raise click.exceptions.Exit(1)
