"""``mldr-deploy export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..bundle.precisions import listed
from ..bundle.targets import listed_targets
from ..errors import Unavailable
from . import options
from .console import progress, show

if TYPE_CHECKING:
    from ..bundle.reader import Bundle


@click.command(name="export")
@click.argument("trained", metavar="TRAINED", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The bundle to write. An earlier one there is replaced when the new one is complete; what "
    "it has of the same student and is not named again stays in it.",
)
@click.option(
    "--precision",
    "precisions",
    metavar="LIST",
    type=options.CommaList(),
    default="fp32",
    show_default=True,
    help=f"What to write, separated by commas: {listed()}.",
)
@click.option(
    "--target",
    "targets",
    metavar="LIST",
    type=options.CommaList(),
    default="onnx",
    show_default=True,
    help=f"What runs it, separated by commas: {listed_targets()}. Each is written in those of the "
    "precisions that it has.",
)
@options.data_source("The data set it was trained on, where it lies now")
@options.data_root
@click.option(
    "--opset", type=int, default=20, show_default=True, help="ONNX operator set of the artifact."
)
@click.option(
    "--max-batch",
    type=int,
    default=64,
    show_default=True,
    help="Largest batch the artifact takes, images; parity is proven at it.",
)
@options.as_json
@options.quiet
def command(
    trained: Path,
    out: Path,
    source: str | None,
    data_root: Path | None,
    precisions: tuple[str, ...],
    targets: tuple[str, ...],
    opset: int,
    max_batch: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export a trained model to an ONNX bundle and prove parity on the whole test split.

    TRAINED is the folder that `distill` or `train-teacher` left (model.json and
    weights.safetensors). The bundle holds the ONNX file, the weights, golden images and a manifest
    with labels, preprocessing, hashes, parity results and provenance. A student that does not score
    on the validation split what training recorded of it is refused.

    Exit code 1 when a parity gate fails, or when the student is no better on the test split than
    always naming the largest class: the bundle is written all the same, marked, with the first
    deviating node of a failed artifact named, and nothing will serve it. Exit code 2 when this
    machine lacks what one of the artifacts needs: everything else is written.

    int8 and fp8 are calibrated on training images; the method, and the layers that stay in higher
    precision, are chosen by accuracy on the validation split. With several artifacts the closing
    table also has their latency on this machine and says which one to ship. `export TRAINED --out
    BUNDLE --precision int8` adds int8 to a bundle of the same student.
    """
    from ..api.json_form import json_form
    from ..pipeline.single import export_trained

    settings = {
        "opset": opset,
        "max_batch": max_batch,
        "precisions": precisions,
        "targets": targets,
    }
    with progress(quiet) as bar:
        bundle = export_trained(trained, out, source, data_root, settings, progress=bar)
    if as_json:
        print(json_form("export", bundle, passed=bool(bundle)))
    else:
        _show(bundle)
    if not bundle:
        raise click.exceptions.Exit(1)
    if bundle.manifest.unavailable:
        raise Unavailable("; ".join(bundle.manifest.unavailable))


def _show(bundle: Bundle) -> None:
    from ..pipeline.artifact_table import artifact_table

    for artifact in bundle.manifest.artifacts:
        show(artifact.parity, hang=2)
        if artifact.fault is not None:
            show(f"  {artifact.fault}", hang=2)
    for built in bundle.manifest.built:
        show(built, hang=2)
    if len(bundle.manifest.artifacts) > 1:
        show(artifact_table(bundle.manifest), hang=2)
    for line in bundle.manifest.quality.lines() if bundle.manifest.quality else ():
        show(line, hang=2)
    for line in bundle.manifest.doubts:
        show(line, hang=2)
    print(f"bundle: {bundle.path}")
    if bundle.manifest.warning is not None:
        show(bundle.manifest.warning)
