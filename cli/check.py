"""``mldr-deploy check``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .console import progress, show


@click.command(name="check")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@options.data_source("Images whose test split parity is proven on; they need the same classes")
@options.data_root
@click.option(
    "--golden-only",
    is_flag=True,
    help="Verify hashes and golden images only; do not run the whole test split.",
)
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bundle: Path,
    source: str | None,
    data_root: Path | None,
    golden_only: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Prove a bundle again: hashes, golden images, then parity on the whole test split.

    Parity compares with the PyTorch model rebuilt from the bundle's weights; that model in turn
    must score on the validation split what training recorded.

    BUNDLE is the folder that `export` or `distill-and-export` wrote. Without the data set at hand,
    --golden-only still proves that files and preprocessing are unchanged and that the artifact
    gives the logits it gave when it was exported.

    Exit code 1 when anything is missing or changed or a gate fails; 2 when the data set is not on
    this machine.
    """
    from ..api.json_form import json_form
    from ..pipeline.single import check_exported

    if golden_only:
        reason = "does not go with --golden-only, which needs no data set."
        options.refuse_given(ctx, ("source", "data_root"), reason)
    with progress(quiet) as bar:
        result = check_exported(bundle, source, data_root, golden_only=golden_only, progress=bar)
    if as_json:
        print(json_form("check", result, passed=bool(result)))
    else:
        show(result, hang=8)
    if not result:
        raise click.exceptions.Exit(1)
