"""Reading a request's body without giving a client more memory or time than it may have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .compression import inflated, request_coding
from .request_refusal import RequestRefusal, overloaded


class ByteBudget:
    """Bytes of all requests that are being received or answered."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @contextmanager
    def holding(self, count: int) -> Iterator[Share]:
        """Hold ``count`` bytes, or more when the share grows. Raises RequestRefusal as it does."""
        share = Share(self)
        share.grow(count)
        try:
            yield share
        finally:
            self.used -= share.count


class Share:
    """One request's bytes of a budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.count = 0

    def grow(self, count: int) -> None:
        """Hold at least ``count`` bytes. Raises RequestRefusal (503) where too few are free."""
        if count <= self.count:
            return
        used_elsewhere = self._budget.used - self.count
        if used_elsewhere and used_elsewhere + count > self._budget.limit:
            raise overloaded(
                "bytes_in_flight",
                f"{used_elsewhere} bytes of other requests are in work: try later",
            )
        self._budget.used = used_elsewhere + count
        self.count = count


def declared_length(request: Request, limit: int) -> int:
    """Length that the request declares for its body, or ``limit`` where it declares none.

    Raises RequestRefusal (413) for a declared length above ``limit``.
    """
    header = request.headers.get("content-length", "")
    if not (header.isascii() and header.isdigit()):
        return limit
    length = int(header[:20])
    if length > limit:
        raise RequestRefusal(
            413, "body_size", f"the body has {length} bytes, at most {limit} are taken"
        )
    return length


async def read_body(request: Request, limit: int, timeout: float, share: Share) -> bytes:
    """The whole body, inflated if it is compressed; ``share`` grows with it.

    Raises RequestRefusal: 413 above ``limit`` bytes, 408 after ``timeout`` seconds, 415 and 400 for
    codings that are not taken or damaged, 503 when the budget is used up.
    """
    coding = request_coding(request.headers.getlist("content-encoding"))
    stream = request.stream()
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout):
            async for chunk in stream if coding is None else inflated(stream, coding):
                size += len(chunk)
                if size > limit:
                    raise RequestRefusal(413, "body_size", f"the body has more than {limit} bytes")
                share.grow(size)
                chunks.append(chunk)
    except TimeoutError:
        raise RequestRefusal(
            408, "body_timeout", f"the body took more than {timeout:g} seconds"
        ) from None
    except ClientDisconnect:
        raise RequestRefusal(400, "disconnected", "the client went away") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_DRAIN_BYTES = 64 << 20
_DRAIN_SECONDS = 5.0


class BodyDrain:
    """Reads, and throws away, what a client still sends when its answer is ready.

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

        async def receive_watched() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or not message.get("more_body", False)
            return message

        async def send_drained(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start" and not ended and message["status"] != 408:
                await _drain(receive_watched)
                ended = True
            await send(message)

        await self._app(scope, receive_watched, send_drained)


async def _drain(receive: Receive) -> None:
    allowance = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while allowance > 0:
                message = await receive()
                allowance -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
