"""One replica: the bundle, opened and proven where it runs, behind the application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...bundle.reader import open_bundle
from ...runtimes.runtime import RuntimeOptions
from ...runtimes.runtime_choice import open_runtime, prove_golden
from ..app import create_app
from ..service import Service
from ..service_config import ServeConfig


class Replica:
    """Ray Serve makes it in a process of its own and hands it requests.

    The bundle is verified and its golden images are computed on the machine of the replica: a
    replica that would answer wrongly does not start.
    """

    def __init__(self, path: str, config: dict[str, Any], allow_failed: bool) -> None:
        from ray import serve

        serve_config = ServeConfig(**config)
        bundle = open_bundle(Path(path), allow_failed=allow_failed)
        options = RuntimeOptions(threads=serve_config.threads)
        runtime = open_runtime(bundle, serve_config.runtime, serve_config.artifact, options)
        runtime.load()  # for as long as the process lives
        prove_golden(bundle, runtime)
        name = serve.get_replica_context().replica_id.unique_id
        self._service = Service(bundle.manifest, runtime, serve_config, replica=name)

    def __serve_build_asgi_app__(self) -> Any:
        """What Ray Serve starts, calls and, when the replica is drained, stops."""
        return create_app(self._service)

    def check_health(self) -> None:
        """Raises when nothing is computed any more: Ray Serve then replaces the replica."""
        if not self._service.batcher.alive:
            raise RuntimeError("the runtime's thread has ended")
