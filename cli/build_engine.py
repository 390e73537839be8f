"""``mldr-deploy build-engine``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .console import progress, show


@click.command(name="build-engine")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    "precisions",
    metavar="P[,P...]",
    type=options.CommaList(may_be_empty=True),
    default="",
    help="Which of the bundle's ONNX files to build from, for example fp16.  [default: all that "
    "passed their gate]",
)
@click.option(
    "--opt-batch",
    type=int,
    default=1,
    show_default=True,
    help="Batch that kernels are chosen for, images; every batch up to the bundle's largest runs.",
)
@click.option(
    "--hardware",
    metavar="none|same-compute-capability|ampere-plus",
    default="none",
    show_default=True,
    help="Other GPUs that the engine must run on; each step costs speed.",
)
@click.option(
    "--version-compatible",
    is_flag=True,
    help="Let newer TensorRT versions of the same major version run it.",
)
@click.option(
    "--effort",
    type=int,
    default=3,
    show_default=True,
    help="0 to 5: a higher one builds longer and runs faster.",
)
@click.option(
    "--rtx",
    is_flag=True,
    help="Build for NVIDIA's RTX cards with TensorRT-RTX instead; needs no GPU, and proves no "
    "parity: such an engine is marked as not run.",
)
@click.option(
    "--capabilities",
    metavar="CC[,CC...]",
    type=options.CommaList(),
    default=None,
    help="With --rtx: compute capabilities to build for.  [default: 8.0,8.6,8.9,12.0]",
)
@click.option(
    "--golden-only",
    is_flag=True,
    help="Prove it on the bundle's golden images only; needs neither the data set nor PyTorch.",
)
@options.data_source("Images whose test split parity is proven on; they need the same classes")
@options.data_root
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bundle: Path,
    precisions: tuple[str, ...],
    opt_batch: int,
    hardware: str,
    version_compatible: bool,
    effort: int,
    rtx: bool,
    capabilities: tuple[str, ...] | None,
    golden_only: bool,
    source: str | None,
    data_root: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Build TensorRT engines for this machine's GPU into a bundle, and prove them.

    BUNDLE is the folder that `export` or `distill-and-export` wrote. An engine belongs to one GPU
    and one TensorRT version; a bundle may hold several. Where it holds one that fits already,
    nothing is built. The ONNX graph is checked first for what TensorRT does
    not take; parity and the precision that the layers really have are proven afterwards.

    With --rtx the engines are TensorRT-RTX's, built on any machine, and the bundle lists them as
    "built, not run"; nothing serves them. RTX cards are served from the ONNX file: `serve --runtime
    onnxruntime-tensorrt-rtx`.

    Exit code 1 when a gate fails: the engine is kept, marked failed, and nothing will serve it.
    Exit code 2 when this machine has no TensorRT or no NVIDIA GPU.
    """
    from ..api.json_form import json_form
    from ..errors import MldrError
    from ..pipeline.engines import build_engines, build_rtx_engines

    settings: dict[str, object] = {
        "opt_batch": opt_batch,
        "hardware": hardware,
        "version_compatible": version_compatible,
        "effort": effort,
    }
    if capabilities is not None:
        if not rtx:
            raise MldrError("--capabilities is for TensorRT-RTX engines: give --rtx too")
        settings["capabilities"] = capabilities
    if golden_only and not rtx:
        reason = "does not go with --golden-only, which needs no data set."
        options.refuse_given(ctx, ("source", "data_root"), reason)
    with progress(quiet) as bar:
        if rtx:
            if golden_only or source or data_root:
                raise MldrError("--rtx proves no parity: leave out --golden-only and --data")
            unrun = build_rtx_engines(bundle, precisions, settings, progress=bar)
            lines = "\n".join(map(str, unrun))
            print(json_form("build-engine", unrun, passed=True) if as_json else lines)
            return
        engines = build_engines(
            bundle, precisions, settings, source, data_root, golden_only=golden_only, progress=bar
        )
    passed = all(engine.parity for engine in engines)
    if as_json:
        print(json_form("build-engine", engines, passed=passed))
    else:
        for engine in engines:
            show(f"{engine.file}: {engine.engine.proof if engine.engine else ''}", hang=2)
            show(engine.parity, hang=2)
    if not passed:
        raise click.exceptions.Exit(1)
