"""uvicorn's protocols with a guard before them."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from .connection_guard import ConnectionGuard
from .service_config import ServeConfig


class GuardedH11(ConnectionGuard, H11Protocol):  # type: ignore[misc]
    """The protocol that uvicorn always has."""


def guarded_protocol(limits: ServeConfig) -> Any:
    """What ``uvicorn.Config(http=...)`` makes its connections with: httptools where it is there."""
    kind = guarded_httptools() if find_spec("httptools") else GuardedH11
    return partial(kind, limits)


def guarded_httptools() -> type[ConnectionGuard]:
    """The faster protocol."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from .no_upgrades import NoUpgrades

    return type("GuardedHttptools", (NoUpgrades, HttpToolsProtocol), {})
