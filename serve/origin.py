"""Origins of pages, as browsers write them into their requests."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_FORM = "write http(s)://HOST or http(s)://HOST:PORT, or * for every page"
_PORTS = {"http": 80, "https": 443}  # browsers leave them out
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def browsers_origin(origin: str) -> str:
    """``origin`` as browsers send it, or ``*``. Raises ValueError with what to write instead."""
    if origin == "*":
        return origin
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
        host = f"[{name}]" if ":" in name else name.encode("idna").decode()
        port = parts.port
    except ValueError:
        raise ValueError(f"{origin!r} is no origin: {_FORM}") from None
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or "@" in parts.netloc:
        raise ValueError(f"{origin!r} is no origin: {_FORM}")
    suffix = "" if port in (None, _PORTS[parts.scheme]) else f":{port}"
    sent = f"{parts.scheme}://{host}{suffix}"
    if origin != sent:
        raise ValueError(f"{origin!r} is not what browsers send: write {sent}")
    return sent
