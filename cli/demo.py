"""``mldr-deploy demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .console import progress


@click.command(name="demo")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--teacher",
    metavar="RUN",
    default=None,
    type=click.Path(path_type=Path),
    help="Folder of the run that the student learned in, or of its teacher: shown beside the "
    "student. Needs PyTorch.",
)
@click.option(
    "--report",
    metavar="DIR",
    default=None,
    type=click.Path(path_type=Path),
    help="Latency report that `profile` wrote.  [default: latency/ beside the bundle or here, if "
    "it is of this bundle]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="Port of this machine to listen on; 0 takes a free one and says which.",
)
@click.option(
    "--runtime",
    metavar="auto|NAME",
    default="auto",
    show_default=True,
    help="What computes, as for `serve`; auto takes for each artifact the fastest whose answers to "
    "the golden images hold here.",
)
@options.threads
@options.max_upload("upload, an image or a zip archive")
@options.max_megapixels
@click.option(
    "--allow-failed",
    is_flag=True,
    help="Run artifacts that failed parity, or a student at chance, to look into them.",
)
@options.quiet
def command(
    bundle: Path,
    teacher: Path | None,
    report: Path | None,
    allow_failed: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Show a bundle in the browser: classify images, beside the teacher, with proof and latency.

    BUNDLE is the folder that `export` wrote; its hashes and golden images are verified first.

    The page is served to this machine only (127.0.0.1), fetches nothing from the network and tells
    nobody that it is used. Its tabs: Classify (upload, paste, camera, the bundle's own images, for
    digits a pen), Batch (folder or zip archive), Proof, Latency, About. A bundle that failed its
    gates is shown with what failed; its artifacts are not run.

    Exit code 1 when the bundle is damaged, the teacher or report belongs to another, or the port
    cannot be had; 2 when a package is missing.
    """
    from ..demo.demo_config import DemoConfig
    from ..demo.launch import demo

    with progress(quiet) as bar:
        demo(
            bundle,
            DemoConfig(**settings),
            teacher=teacher,
            report=report,
            allow_failed=allow_failed,
            progress=bar,
        )
