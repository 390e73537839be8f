"""``mldr-deploy triton-repo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .console import progress


@click.command(name="triton-repo")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.argument("out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default=None, help="First part of the models' names.  [default: student's]")
@click.option(
    "--artifact",
    "artifacts",
    metavar="PRECISION|FILE",
    multiple=True,
    help="Artifact to take, for example int8; several times for several.  [default: all that may "
    "be shipped]",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Copies of each model that compute side by side.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1, 1_000_000),
    default=256,
    show_default=True,
    help="Most requests waiting for a model; more are rejected.",
)
@click.option(
    "--max-delay-us",
    type=click.IntRange(0, 60_000_000),
    default=0,
    show_default=True,
    help="Microseconds that a batch which is not full waits for more.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(0.001, 3600),
    default=10.0,
    show_default=True,
    help="Seconds in the queue; then a request is rejected.",
)
@click.option(
    "--rate-limit",
    is_flag=True,
    help="Models share slots of computation: start Triton with --rate-limit=execution_count "
    "--rate-limit-resource=mldr-slot:N.",
)
@click.option(
    "--allow-failed",
    is_flag=True,
    help="Take artifacts that failed parity, or a student at chance, too, to look into them.",
)
@options.quiet
def command(
    bundle: Path,
    out: Path,
    name: str | None,
    artifacts: tuple[str, ...],
    allow_failed: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Write a bundle as a model repository of Triton Inference Server.

    BUNDLE is the folder that `export` wrote, DIR the model repository.

    One model for each artifact (ONNX Runtime and TensorRT backends) and one for the Python backend
    that carries all it needs, each with dynamic batches, a bounded queue, labels and a warm-up on a
    real image. Start it with `tritonserver --model-repository=DIR`. The models take preprocessed
    tensors, as `/v2` of `serve` does. The Python model needs onnxruntime in Triton's Python.

    An artifact that failed parity is left out, and so is one whose parity was proven by emulation:
    a model that does not load stops tritonserver. What is left out is named.

    Exit code 1 when the bundle does not hold, nothing in it passed parity, or DIR holds other
    files.
    """
    from ..bundle.reader import open_bundle
    from ..serve.triton.repository import write_repository
    from ..serve.triton.triton_config import TritonConfig

    opened = open_bundle(bundle, allow_failed=allow_failed)
    with progress(quiet) as bar:
        models = write_repository(
            opened, out, TritonConfig(**settings), name, artifacts=artifacts, progress=bar
        )
    for model in models:
        print(model)
