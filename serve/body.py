"""Reading a request's body without giving a client more memory or time than it may have."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .byte_budget import PACE, Share
from .compression import inflated, request_coding
from .request_refusal import RequestRefusal
from .service_config import ServeConfig


async def read_body(request: Request, limit: int, config: ServeConfig, share: Share) -> bytes:
    """The whole body, inflated if it is compressed; ``share`` grows with it.

    Raises RequestRefusal: 413 above ``limit`` bytes, 408 after ``body_timeout`` seconds or where
    PACE bytes take longer than ``body_pace``, 415 and 400 for codings that are not taken or
    damaged, 503 when the budget is used up.
    """
    _require_length(request, limit)
    coding = request_coding(request.headers.getlist("content-encoding"))
    stream = request.stream()
    chunks: list[bytes] = []
    size = 0
    now = asyncio.get_running_loop().time
    end = now() + config.body_timeout
    try:
        async with asyncio.timeout_at(min(end, now() + config.body_pace)) as share.timer:
            async for chunk in stream if coding is None else inflated(stream, coding):
                size += len(chunk)
                if size > limit:
                    raise RequestRefusal(413, "body_size", f"the body has more than {limit} bytes")
                if share.grow(size):
                    share.timer.reschedule(min(end, now() + config.body_pace))
                chunks.append(chunk)
    except TimeoutError:
        raise share.refusal() if share.gave_way else _late(config, now() >= end) from None
    except ClientDisconnect:
        raise RequestRefusal(400, "disconnected", "the client went away") from None
    finally:
        share.timer = None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _require_length(request: Request, limit: int) -> None:
    """Raises RequestRefusal (413) where the request declares more than ``limit`` bytes."""
    header = request.headers.get("content-length", "")
    length = int(header[:20]) if header.isascii() and header.isdigit() else 0
    if length > limit:
        raise RequestRefusal(
            413, "body_size", f"the body has {length} bytes, at most {limit} are taken"
        )


def _late(config: ServeConfig, ended: bool) -> RequestRefusal:
    """408 at the end of the whole time, or for a pace that is too slow."""
    if ended:
        message = f"the body took more than {config.body_timeout:g} seconds"
    else:
        message = f"the body is too slow: {PACE} bytes took more than {config.body_pace:g} seconds"
    return RequestRefusal(408, "body_timeout", message)


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
