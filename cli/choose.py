"""``mldr-deploy choose``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .console import progress, show
from .short_forms import CHOICE_FORMS


@click.command(name="choose")
@options.recipe
@options.forms(CHOICE_FORMS)
@options.overrides
@click.option(
    "--max-ms",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Most milliseconds that a call may take on this machine's CPU, in ONNX Runtime or what "
    "--target says.",
)
@click.option(
    "--max-mb",
    type=click.FloatRange(min=0, min_open=True),
    help="Largest file, MB.  [default: no limit]",
)
@click.option(
    "--batch", type=click.IntRange(1, 4096), default=1, show_default=True, help="Images a call."
)
@click.option(
    "--threads",
    type=click.IntRange(0, 1024),
    default=1,
    show_default=True,
    help="CPU threads that compute; 0: one per usable core.",
)
@click.option(
    "--students",
    type=options.CommaList(),
    default=(),
    help="Names or shell patterns of architectures, separated by commas.  [default: small ones of "
    "four families]",
)
@click.option(
    "--candidates",
    type=click.IntRange(1, 200),
    default=12,
    show_default=True,
    help="Most students that are trained.",
)
@click.option(
    "--image-sizes",
    type=options.CommaList(int),
    default=(),
    help="Sides of the input to choose among, pixels.  [default: data.image_size]",
)
@click.option(
    "--target",
    default="onnx",
    show_default=True,
    help="What runs the student's file: onnx, or for phones executorch or litert. It is run on "
    "this machine.",
)
@click.option(
    "--precisions",
    type=options.CommaList(),
    default=(),
    help="Precisions to choose among.  [default: fp32,int8; for phones fp32,int8-dynamic]",
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Time for the teacher and the rounds; the last round has no more than the recipe's "
    "epochs. Measuring before and proving after take minutes more.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of this choice.",
)
@options.jobs("one a core, four at most; one a GPU")
@options.engine
@options.run_cores
@options.device
@options.as_json
@options.quiet
def command(
    recipe: str,
    overrides: tuple[str, ...],
    max_ms: float,
    max_mb: float | None,
    batch: int,
    threads: int,
    students: tuple[str, ...],
    candidates: int,
    image_sizes: tuple[int, ...],
    target: str,
    precisions: tuple[str, ...],
    hours: float,
    out: Path,
    jobs: int | None,
    engine: str,
    run_cores: int | None,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Choose the most accurate student within a budget of milliseconds and megabytes, here.

    Students of several families near the budget are exported untrained and timed on this machine
    (once: figures are kept in the user's cache folder); those over the budget are out. The others
    are trained with one teacher's kept logits, the better third goes on with three times the
    epochs, and the best whose file passes its gates is chosen. docs/choose.md has the rules.

    Leaves the proven bundle, report.html, table.md, choice.json and compare.toml in --out. After
    Ctrl-C or kill -9 give the same command again: it goes on, to the same bits.
    """
    runs = options.engine_chosen(engine, run_cores, jobs)
    with progress(quiet) as bar:
        from ..choose.request import ChoiceRequest
        from ..choose.student_choice import choose_student
        from ..pipeline.recipe import load_recipe
        from ..pipeline.validation import validated

        budget = {"max_ms": max_ms, "max_mb": max_mb, "batch": batch, "threads": threads}
        settings = {
            "budget": budget,
            "students": students,
            "candidates": candidates,
            "image_sizes": image_sizes,
            "target": target,
            "precisions": precisions,
            "hours": hours,
            "jobs": jobs or 0,
        }
        request = validated(ChoiceRequest, settings, "choose")
        resolved = load_recipe(recipe, overrides)
        choice = choose_student(request, resolved, out, device=device, progress=bar, engine=runs)
    if as_json:
        from ..api.json_form import json_form

        print(json_form("choose", choice, passed=True))
        return
    from ..choose.choice_table import choice_table

    show(choice_table(choice))
    print(f"bundle: {out / 'bundle'}  report: {out / 'report.html'}")
