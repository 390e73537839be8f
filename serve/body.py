"""Reading a request's body without giving a client more memory or time than it may have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusal import Refusal, overloaded


class ByteBudget:
    """Bytes of all requests that are being received or answered."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Hold ``count`` bytes. Raises Refusal (503) when they are not to be had."""
        if self.used and self.used + count > self.limit:
            raise overloaded(
                "bytes_in_flight", f"{self.used} bytes of other requests are in work: try later"
            )
        self.used += count
        try:
            yield
        finally:
            self.used -= count


def declared_length(request: Request, limit: int) -> int:
    """Bytes that the body may have: what it declares, or ``limit`` when it declares nothing.

    Raises Refusal for a body that is compressed (415) or says that it is above ``limit`` (413).
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Refusal(415, "encoding", f"content encoding {encoding[:40]!r}: send it plain")
    stated = request.headers.get("content-length", "")
    if not (stated.isascii() and stated.isdigit()):
        return limit
    length = int(stated[:20])
    if length > limit:
        raise Refusal(413, "body_size", f"the body has {length} bytes, at most {limit} are taken")
    return length


async def read_body(request: Request, limit: int, timeout: float) -> bytes:
    """The whole body. Raises Refusal: 413 above ``limit`` bytes, 408 after ``timeout`` seconds."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise Refusal(413, "body_size", f"the body has more than {limit} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise Refusal(408, "body_timeout", f"the body took more than {timeout:g} seconds") from None
    except ClientDisconnect:
        raise Refusal(400, "disconnected", "the client went away") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_DRAIN_BYTES = 64 << 20
_DRAIN_SECONDS = 5.0


class Drained:
    """Takes in, and throws away, what a client still sends when its answer is ready.

    An early answer (413, 404) followed by a closed connection would reach the client as a reset,
    and its reason would be lost. What is taken in this way is bounded in bytes and time. Clients
    that asked first (``Expect: 100-continue``) are told at once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        ended = any(name == b"expect" for name, _ in scope["headers"])

        async def watching() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or not message.get("more_body", False)
            return message

        async def draining(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start" and not ended and message["status"] != 408:
                await _drain(watching)
                ended = True
            await send(message)

        await self._app(scope, watching, draining)


async def _drain(receive: Receive) -> None:
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
