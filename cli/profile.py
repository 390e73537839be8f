"""``mldr-deploy profile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .console import progress, show

if TYPE_CHECKING:
    from ..profiler.two_reports import ReportComparison


@click.command(name="profile")
@click.argument("bundle", metavar="BUNDLE", required=False, type=click.Path(path_type=Path))
@click.option(
    "--compare",
    metavar="A.json B.json",
    nargs=2,
    default=None,
    type=click.Path(path_type=Path),
    help="Measure nothing; tell real changes between two reports from noise. Goes with no other "
    "option but --json and --quiet.",
)
@click.option(
    "--against",
    metavar="BUNDLE",
    default=None,
    type=click.Path(path_type=Path),
    help="Another bundle, measured side by side with BUNDLE, a request of each in turn; no report "
    "is written. Needs 3 --rounds.",
)
@click.option(
    "--out",
    metavar="DIR",
    default=Path("latency"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for report.json, report.html and summary.md; an earlier report is replaced.",
)
@click.option(
    "--runtime",
    "runtimes",
    metavar="NAME[,NAME...]",
    type=options.CommaList(),
    multiple=True,
    callback=lambda ctx, param, lists: tuple(name for names in lists for name in names),
    help="Runtime to measure: onnxruntime-cpu, onnxruntime-cuda, onnxruntime-tensorrt-rtx, "
    "openvino, tensorrt, executorch, litert, pytorch, pytorch-compiled. May be given several times."
    "  [default: all here but PyTorch's and RTX's]",
)
@click.option(
    "--artifact",
    metavar="PRECISION|FILE",
    default=None,
    help="The only artifact to measure, for example int8.  [default: all]",
)
@click.option(
    "--batches",
    metavar="N,N,...",
    default="1,2,4,8,16,32",
    show_default=True,
    type=options.CommaList(int),
    help="Batch sizes; 1 is always measured, and none above what parity was proven at.",
)
@click.option(
    "--loads",
    metavar="X,X,...",
    default="0.5,0.8",
    show_default=True,
    type=options.CommaList(float, may_be_empty=True),
    help="Poisson arrivals, as parts of full load at batch 1; empty for none.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="How often everything is loaded and measured anew; --compare needs 3.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=3.0,
    show_default=True,
    help="Least measured time of a series, all rounds together.",
)
@click.option(
    "--iterations",
    type=click.IntRange(2, 1_000_000),
    default=100,
    show_default=True,
    help="Least measured requests of a series, all rounds together.",
)
@options.threads
@click.option(
    "--encoding",
    type=click.Choice(["JPEG", "PNG"]),
    default="JPEG",
    show_default=True,
    help="Form of the images that requests are decoded from.",
)
@click.option("--no-layers", is_flag=True, help="Do not measure the time per layer.")
@click.option(
    "--allow-failed",
    is_flag=True,
    help="Measure artifacts that failed parity, or a student at chance, to look into them.",
)
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bundle: Path | None,
    compare: tuple[Path, Path] | None,
    against: Path | None,
    out: Path,
    no_layers: bool,
    allow_failed: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Measure what every artifact of a bundle costs on this machine, and say which to ship.

    BUNDLE is the folder that `export` wrote; `--compare` does without it.

    Real images go through decoding, preprocessing, the way to the device, the network and back,
    each timed apart: one request after another at several batch sizes, and arriving at random
    (Poisson) with the queueing counted. Every latency stands beside the accuracy of the same file.

    With --compare, two reports are compared instead; rounds and samples are resampled to judge
    whether a difference is more than noise. With --against, two bundles are measured side by side:
    what the machine does meanwhile touches both, and each stage is timed in a loop of its own.

    Exit code 1 when the bundle does not hold, its artifacts failed parity, or a report cannot be
    read or written; 2 when this machine runs nothing of the bundle.
    """
    if compare is not None:
        others = {name for name in ctx.params if name not in ("compare", "as_json", "quiet")}
        options.refuse_given(ctx, others, "does not go with --compare, which measures nothing.")
        from ..profiler.two_reports import compare_files

        comparison = compare_files(*compare)
        _print(comparison, as_json)
        return
    if bundle is None:
        raise click.UsageError("Missing argument 'BUNDLE' (or --compare A.json B.json).")
    if against is not None:
        reason = "does not go with --against, which times requests in turn and writes no report."
        options.refuse_given(ctx, ("out", "loads", "no_layers"), reason)
        comparison = _side_by_side(bundle, against, settings, allow_failed, quiet)
        _print(comparison, as_json)
        return
    from ..profiler.folder_report import profile_in
    from ..profiler.markdown import markdown
    from ..profiler.report_files import PAGE

    with progress(quiet) as bar:
        report = profile_in(
            bundle,
            out,
            {**settings, "layers": not no_layers},
            allow_failed=allow_failed,
            progress=bar,
        )
    if as_json:
        from ..api.json_form import json_form

        print(json_form("profile", report, passed=True))
    else:
        show(markdown(report))
        print(f"report: {out / PAGE}")


def _print(comparison: ReportComparison, as_json: bool) -> None:
    if as_json:
        from ..api.json_form import json_form

        print(json_form("profile", comparison, passed=True))
    else:
        show(comparison)


def _side_by_side(
    before: Path, after: Path, settings: dict[str, Any], allow_failed: bool, quiet: bool
) -> ReportComparison:
    from ..profiler.folder_report import profile_config
    from ..profiler.side_by_side import compare_bundles

    config = profile_config(settings)
    with progress(quiet) as bar:
        return compare_bundles(before, after, config, allow_failed=allow_failed, progress=bar)
