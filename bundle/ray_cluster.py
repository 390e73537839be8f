"""Ray: a cluster that is running, or one of this machine for the length of a block."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from ..errors import MldrError, Unavailable
from .processor import usable_cores
from .wording import cause

_CONNECT_SECONDS = 10.0
_OBJECT_STORE = 100 << 20  # bytes; neither requests nor results pass through it
# Read by Ray when it is imported and by the processes that it starts. Its workers are no background
# work (Ray's niceness is 15); and Ray's own ports, which ask nobody for a password, are for this
# machine only: what Ray has for that is named after the systems where it is the default.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOCAL_ENVIRONMENT = {"RAY_worker_niceness": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def require_ray(use: str, extras: str) -> None:
    """Raises Unavailable where Ray is not installed; ``use``: who needs what, ``extras``: ours."""
    if find_spec("ray") is None:
        raise Unavailable(f'{use}: pip install "mldr-deploy[{extras}]"')


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """This process connected to the cluster at ``address``; None: one that ends with the block.

    Raises MldrError where Ray does not start or connect.
    """
    if address is not None:
        _require_listener(address)
    for name, value in (_ENVIRONMENT | ({} if address else _LOCAL_ENVIRONMENT)).items():
        os.environ.setdefault(name, value)
    import ray

    try:
        if address is not None:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                _node_ip_address="127.0.0.1",
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        if address is None:
            raise MldrError(f"Ray does not start: {line}") from error
        raise MldrError(
            f"the Ray cluster at {address} cannot be joined: {line}; where it asks for a token, "
            "set RAY_AUTH_MODE=token"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raises MldrError where nobody listens at HOST:PORT; Ray itself would wait for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():  # auto, or what Ray refuses at once
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise MldrError(
            f"no Ray cluster answers at {address} ({cause(error)}): start one there with "
            "`ray start --head`, or give the address of one that runs"
        ) from error
