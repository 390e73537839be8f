"""A bundle served by one process until a signal ends it."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from ..bundle.manifest import FILE
from ..bundle.progress import Progress, Silent
from ..bundle.reader import open_bundle
from ..errors import MldrError, Unavailable
from ..runtimes.runtime import RuntimeOptions
from ..runtimes.runtime_choice import open_runtime, prove_golden, require_name
from .service_config import ServeConfig

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
_OWN_FILES = 100  # open files that are no connections


def serve(
    path: Path,
    config: ServeConfig,
    *,
    allow_failed: bool = False,
    progress: Progress | None = None,
) -> None:
    """Serve the bundle at ``path`` until SIGINT or SIGTERM, then finish what was accepted.

    Raises MldrError for a bundle that is damaged or failed its gates, an unknown runtime or a port
    that cannot be listened on; Unavailable where packages are missing.
    """
    progress = progress or Silent()
    require_packages()
    require_name(config.runtime)
    bundle = open_bundle(path, allow_failed=allow_failed)
    listening = listen(config.host, config.port)  # before anything slow, to fail early
    with listening:
        progress.note(f"{path / FILE}: {bundle.manifest.seal}")
        options = RuntimeOptions(threads=config.threads)
        runtime = open_runtime(bundle, config.runtime, config.artifact, options, progress)
        with runtime:
            difference = prove_golden(bundle, runtime)
            progress.note(
                f"{runtime.model.path.name} ({runtime.model.precision}) in {runtime.name}: golden "
                f"images answered as at export (|dlogit| {difference:.1e})"
            )
            from .app import create_app
            from .service import Service

            service = Service(bundle.manifest, runtime, config)
            progress.note(
                f"model {service.model} on {url_of(listening)}  "
                f"(/docs, /classify, /v2, /metrics; Ctrl-C stops)"
            )
            run_app(create_app(service), listening, config.grace, config)


def require_packages() -> None:
    """Raises Unavailable when the extra `serve` is not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise Unavailable(f'serving needs {", ".join(missing)}: pip install "mldr-deploy[serve]"')


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises MldrError where the address cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise MldrError(f"{host} is no address ({error.strerror}): choose another --host") from None
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise MldrError(_unbound(host, port, error)) from None
    return sock


def _unbound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program: choose another --port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to listen on port {port} of {host}: choose a --port above 1023"
    return f"cannot listen on port {port} of {host} ({error.strerror}): choose another --host"


def url_of(listening: socket.socket) -> str:
    """The address for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_app(
    app: object, listening: socket.socket, grace: int, config: ServeConfig | None = None
) -> None:
    """Serve ``app`` until SIGINT or SIGTERM; then what runs has ``grace`` seconds to finish.

    Connections keep the limits of ``config``.
    """
    import uvicorn

    from .connection_guard import ConnectionGuard
    from .guarded_protocol import guarded_protocol

    # What is wrong with an upload is told to its sender; it must not fill the log.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").addFilter(_is_news)

    async def sweep() -> None:
        now = asyncio.get_running_loop().time()
        for connection in [*server.server_state.connections]:
            if isinstance(connection, ConnectionGuard):
                connection.cut_late(now)

    limits = config or ServeConfig()
    limits = limits.model_copy(update={"max_connections": _allowed(limits.max_connections)})
    server = uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=guarded_protocol(limits),
            ws="none",
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=grace,
            server_header=False,
            proxy_headers=False,
            callback_notify=sweep,
            timeout_notify=0,  # every second
        )
    )
    # uvicorn repeats the signal once it has shut down: to these, so that the exit code is 0.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda number, frame: None)
    server.run(sockets=[listening])


def _allowed(connections: int) -> int:
    """As many of ``connections`` as this process may have files open, beside its own."""
    if find_spec("resource") is None:
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = sys.maxsize
    files = min(max(soft, connections + _OWN_FILES), hard)
    if soft not in (files, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, min(connections, files - _OWN_FILES))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log record is worth its traceback: not that of a request cancelled at the end."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
