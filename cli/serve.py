"""``mldr-deploy serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .console import progress


@click.command(name="serve")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. There is no authentication: put a proxy that has one before any "
    "address but this machine's own.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one and says which.",
)
@click.option(
    "--runtime",
    metavar="auto|NAME",
    default="auto",
    show_default=True,
    help="What computes: onnxruntime-cpu, onnxruntime-cuda, onnxruntime-tensorrt-rtx, "
    "openvino, tensorrt, executorch, litert, pytorch, pytorch-compiled. auto times what this "
    "machine has and takes the fastest whose answers to the golden images hold here.",
)
@click.option(
    "--artifact",
    metavar="PRECISION|FILE",
    default=None,
    help="Which artifact of the bundle to serve, for example int8.  [default: the fastest]",
)
@click.option(
    "--name", default=None, help="Name of the model in URLs.  [default: the student's own]"
)
@click.option(
    "--cors",
    multiple=True,
    metavar="ORIGIN",
    help="Origin whose pages may call the service from a browser, for example "
    "https://app.example; several times for several, * for every page.  [default: none]",
)
@options.threads
@click.option(
    "--max-batch",
    type=click.IntRange(0, 4096),
    default=0,
    show_default=True,
    help="Most images computed at once; 0, and at most, the batch that parity was proven at.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1, 1_000_000),
    default=256,
    show_default=True,
    help="Most images waiting; beyond it requests are answered 503 with Retry-After.",
)
@click.option(
    "--max-delay-ms",
    type=click.FloatRange(0, 60_000),
    default=0.0,
    show_default=True,
    help="Milliseconds that a batch which is not full waits for more. With 0 batches still grow "
    "while the one before is computed.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(0.001, 3600),
    default=10.0,
    show_default=True,
    help="Seconds from a request's last byte to its answer; then 503.",
)
@click.option(
    "--body-timeout",
    type=click.FloatRange(0.001, 3600),
    default=300.0,
    show_default=True,
    help="Seconds that a request may take to arrive; then 408.",
)
@click.option(
    "--body-pace",
    type=click.FloatRange(0.001, 3600),
    default=8.0,
    show_default=True,
    help="Seconds that every 64 KiB of a request's body may take; then 408.",
)
@click.option(
    "--head-timeout",
    type=click.FloatRange(0.001, 3600),
    default=10.0,
    show_default=True,
    help="Seconds that a request's line and headers may take to arrive, and every 64 KiB of an "
    "answer to be read; then the connection is closed.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="Most connections; a new one takes the place of the oldest that waits, of the address "
    "with most of them.",
)
@options.max_upload("image upload or JSON request")
@options.max_megapixels
@click.option(
    "--grace",
    type=click.IntRange(0, 3600),
    default=30,
    show_default=True,
    help="Seconds that accepted requests have to finish after Ctrl-C or SIGTERM.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="local: this process. ray: replicas on Ray Serve, in processes of their own, on one "
    "machine or many; the options below are for it.",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Replicas that are always there, each with --threads CPUs (0: one).",
)
@click.option(
    "--max-replicas",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    help="Most replicas when load grows; 0: no more than --replicas.",
)
@click.option(
    "--max-ongoing",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default=True,
    help="Requests that a replica holds at a time; 0: twice its largest batch.",
)
@click.option(
    "--max-queued-requests",
    type=click.IntRange(1, 1_000_000),
    default=256,
    show_default=True,
    help="Most requests that wait at a proxy for a replica; then 503 with Retry-After.",
)
@click.option(
    "--gpus",
    type=click.FloatRange(0, 16),
    default=0.0,
    show_default=True,
    help="GPUs of each replica; a part of one is shared.",
)
@click.option(
    "--address",
    default=None,
    help="A running Ray cluster, where BUNDLE has the same path on every machine; auto: the one of "
    "this machine.  [default: Ray is started here and stopped at the end]",
)
@click.option(
    "--allow-failed",
    is_flag=True,
    help="Serve artifacts that failed parity, or a student at chance, to look into them.",
)
@click.option("--quiet", "-q", is_flag=True, help="Say nothing; errors only.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bundle: Path,
    engine: str,
    allow_failed: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Serve a bundle over HTTP: image uploads and the Open Inference Protocol v2.

    `POST /classify` takes an image and answers labels with probabilities; `/v2` speaks the protocol
    of Triton and KServe, so their clients work; `/metrics` is for Prometheus, `/docs` for people.
    Requests are computed in batches; what does not fit the queue is refused with 503.

    With --engine ray the same service runs as replicas, and one that dies loses no request without
    a 503 that the client can repeat. Ray trusts its network: keep its machines behind a firewall.

    BUNDLE is the folder that `export` wrote; its hashes and golden images are verified first.
    SIGTERM and Ctrl-C finish what was accepted. Exit code 1 when the bundle does not hold, its
    artifacts failed parity, or the port cannot be had; 2 when a package is missing.
    """
    from ..pipeline.engines import ready_to_serve
    from ..pipeline.validation import validated
    from ..serve.service_config import ServeConfig

    on_ray = {name: settings.pop(name) for name in _ON_RAY}
    if engine == "local":
        options.refuse_given(ctx, _ON_RAY, "needs --engine ray.")
    else:
        reason = "does not go with --engine ray, whose own proxy holds the connections."
        options.refuse_given(ctx, ("head_timeout", "max_connections"), reason)
    config = validated(ServeConfig, settings, "serve")
    with progress(quiet) as bar:
        ready_to_serve(bundle, config.runtime, config.artifact, progress=bar)
        if engine == "local":
            from ..serve.server import serve

            serve(bundle, config, allow_failed=allow_failed, progress=bar)
        else:
            from ..serve.ray.ray_config import RayConfig
            from ..serve.ray.ray_service import serve_on_ray

            serve_on_ray(
                bundle,
                config,
                validated(RayConfig, on_ray, "ray"),
                allow_failed=allow_failed,
                progress=bar,
            )


_ON_RAY = ("replicas", "max_replicas", "max_ongoing", "max_queued_requests", "gpus", "address")
