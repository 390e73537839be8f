"""A bundle served by replicas on Ray until a signal ends it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...bundle.progress import Progress, Silent
from ...bundle.ray_cluster import ray_cluster, require_ray
from ...bundle.reader import Bundle, open_bundle
from ...bundle.wording import counted
from ...errors import MldrError
from ...runtimes.runtime import RuntimeOptions, one_line
from ...runtimes.runtime_choice import open_runtime, require_name
from ..server import listen, require_packages
from ..service_config import ServeConfig
from .ray_config import RayConfig

_NAME = "mldr-deploy"
# Read by Ray when it is imported and by the processes that it starts. A busy machine needs longer
# than Ray's few seconds to bring up a proxy.
_ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "mldr_deploy.serve.ray.proxy:middlewares",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}


def serve_on_ray(
    path: Path,
    config: ServeConfig,
    ray_config: RayConfig,
    *,
    allow_failed: bool = False,
    progress: Progress | None = None,
) -> None:
    """Serve the bundle at ``path`` by replicas until SIGINT or SIGTERM.

    Raises MldrError as ``serve`` does, and when the cluster cannot hold the replicas or they do not
    start; Unavailable where packages are missing.
    """
    progress = progress or Silent()
    require_packages()
    require_ray("--engine ray needs Ray Serve", "serve,ray")
    require_name(config.runtime)
    bundle = open_bundle(path, allow_failed=allow_failed)
    with listen(config.host, config.port) as listening:  # given back: Ray listens itself
        port = int(listening.getsockname()[1])
    config = config.model_copy(update={"port": port, "threads": config.threads or 1})
    if ray_config.address is None:
        config = _with_runtime(bundle, config, progress)
    with _ray(ray_config, config) as replicas:
        _deploy(bundle, config, ray_config, allow_failed)
        progress.note(
            f"{replicas} of {bundle.path} on http://{config.host}:{port}  "
            f"(/docs, /classify, /v2, /metrics; Ctrl-C stops)"
        )
        _await_signal()


def _with_runtime(bundle: Bundle, config: ServeConfig, progress: Progress) -> ServeConfig:
    """``config`` with the runtime and artifact that all replicas on this machine are to use."""
    options = RuntimeOptions(threads=config.threads)
    runtime = open_runtime(bundle, config.runtime, config.artifact, options, progress)
    artifact = runtime.model.artifact.file if runtime.model.artifact else None
    return config.model_copy(update={"runtime": runtime.name, "artifact": artifact})


@contextmanager
def _ray(ray_config: RayConfig, config: ServeConfig) -> Iterator[str]:
    """Start Ray with an HTTP proxy, here or in the cluster; yields the replicas, in words."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with ray_cluster(ray_config.address):
        import ray
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        replicas = _require_room(ray.cluster_resources(), ray_config, config.threads)
        timeout = config.body_timeout + config.deadline + 5
        options = {"host": config.host, "port": config.port, "request_timeout_s": timeout}
        serve.start(
            proxy_location="EveryNode", http_options=options, logging_config={"log_level": "ERROR"}
        )
        try:
            yield replicas
        finally:
            if ray_config.address is None:
                serve.shutdown()
            else:  # others may serve there too
                serve.delete(_NAME)


def _require_room(resources: dict[str, float], ray_config: RayConfig, threads: int) -> str:
    """The replicas, in words. Raises MldrError where the cluster is too small for them."""
    for name, per_replica in (("CPU", threads), ("GPU", ray_config.gpus)):
        needed, available = ray_config.replicas * per_replica, resources.get(name, 0)
        if needed > available:
            units = name if needed == 1 else f"{name}s"
            raise MldrError(
                f"{counted(ray_config.replicas, 'replica')}: {needed:g} {units} needed, Ray has "
                f"{available:g}: take fewer --replicas, --threads or --gpus, or add machines to "
                "the cluster"
            )
    replicas = counted(ray_config.replicas, "replica")
    if ray_config.max_replicas > ray_config.replicas:
        replicas = f"{ray_config.replicas} to {ray_config.max_replicas} replicas"
    return f"{replicas} of {counted(threads, 'thread')}"


def deployment_options(
    ray_config: RayConfig, config: ServeConfig, max_batch: int
) -> dict[str, Any]:
    """What Ray Serve's ``deployment`` is given; ``max_batch`` is what parity was proven at."""
    ongoing = ray_config.max_ongoing or 2 * min(config.max_batch or max_batch, max_batch)
    options: dict[str, Any] = {
        "name": _NAME,
        "max_ongoing_requests": ongoing,
        "max_queued_requests": ray_config.max_queued_requests,
        "backpressure_config": {"retry_after_s": 1},
        "graceful_shutdown_timeout_s": float(config.grace),
        "ray_actor_options": {"num_cpus": config.threads, "num_gpus": ray_config.gpus},
    }
    if ray_config.max_replicas > ray_config.replicas:
        options["autoscaling_config"] = {
            "min_replicas": ray_config.replicas,
            "max_replicas": ray_config.max_replicas,
            "target_ongoing_requests": max(1, ongoing // 2),
        }
    else:
        options["num_replicas"] = ray_config.replicas
    return options


def _deploy(bundle: Bundle, config: ServeConfig, ray_config: RayConfig, allow_failed: bool) -> None:
    """Start the replicas; back when they answer. Raises MldrError when they do not start."""
    from ray import serve

    from .replica import Replica

    options = deployment_options(ray_config, config, bundle.manifest.max_batch)
    deployment = serve.deployment(serve.ingress()(Replica), **options)
    bound = deployment.bind(str(bundle.path.resolve()), config.model_dump(), allow_failed)
    try:
        serve.run(bound, name=_NAME, route_prefix="/")
    except RuntimeError as error:
        raise MldrError(f"the replicas do not start: {one_line(error)}") from error


def _await_signal() -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stopped.set())
    stopped.wait()
