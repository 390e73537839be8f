"""``mldr-deploy compare``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .console import progress, show


@click.command(name="compare")
@click.argument("matrix", metavar="MATRIX", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder of the comparison.  [default: runs/ and its name]",
)
@options.jobs("1")
@click.option(
    "--report-only", is_flag=True, help="Train nothing; report what is finished in --out."
)
@options.engine
@options.run_cores
@options.device
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context,
    /,
    matrix: Path,
    out: Path | None,
    jobs: int | None,
    report_only: bool,
    engine: str,
    run_cores: int | None,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare methods on equal terms: a matrix of pairs x methods x seeds from one TOML file.

    MATRIX names teachers, pairs of teacher and student, methods and seeds (docs/compare.md has
    every key). Teachers are trained once and shared; the methods of a pair have the same budget,
    initial weights, order of images and augmentation. Each run is kept as it finishes, and an
    interrupted one continues from its last checkpoint: give the same command again.

    Processes on other machines join in with the same command, when --out lies on a file system
    that they share: each takes the next run that nobody is at. With --engine ray each run is a
    task of a Ray cluster, and begun again where its worker dies.

    Leaves results.json, table.md and two pictures in --out, and prints the table. Exit code 1 when
    a run or an export failed, or a bundle its parity gates; the rest is carried out and reported
    all the same.
    """
    from ..compare.comparison import compare, report_finished

    if engine == "ray" and report_only:
        raise click.UsageError("--engine ray does not go with --report-only, which trains nothing.")
    if report_only:
        reason = "does not go with --report-only, which trains nothing."
        options.refuse_given(ctx, ("jobs", "run_cores"), reason)
    runs = options.engine_chosen(engine, run_cores, jobs)
    with progress(quiet) as bar:
        if report_only:
            results, failed = report_finished(matrix, out, bar), None
        else:
            results, failed = compare(
                matrix, out, jobs=jobs or 1, device=device, progress=bar, engine=runs
            )
    from ..api.json_form import json_form
    from ..compare.table import markdown

    passed = not results.failed
    if as_json:
        print(json_form("compare", results, passed=passed))
    else:
        show(markdown(results))
    if failed is not None:
        raise failed
