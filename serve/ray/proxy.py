"""What Ray Serve's HTTP proxy adds to the application: no request ends without an answer."""

from __future__ import annotations

import json

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOST = json.dumps({"error": "the replica that had this request is gone: try again"}).encode()


def middlewares() -> list[Middleware]:
    """Called by the proxy (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``)."""
    return [Middleware(RetryAfter)]


class RetryAfter:
    """503 with Retry-After where the proxy gives up on a request before its answer began.

    That is when a replica died with the request: Ray's own answer would be a 500, which clients do
    not repeat. Classifying an image twice does no harm, so they may.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_watched(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if message["status"] == 503:
                    message = {**message, "headers": _retried(message.get("headers", []))}
            await send(message)

        await self._app(scope, receive, send_watched)
        if not begun:
            headers = _retried([(b"content-type", b"application/json")])
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": _LOST})


def _retried(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    named = any(name.lower() == b"retry-after" for name, _ in headers)
    return [*headers] if named else [*headers, (b"retry-after", b"1")]
