"""Which pages of other origins may call the service from a browser."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from .protocol import HEADER_LENGTH


class Cors(CORSMiddleware):
    """Starlette's CORS middleware; a refused preflight has its reason in the usual JSON object."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=(HEADER_LENGTH, "Retry-After"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """200, or 400 with the reason."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        content = {"error": f"{bytes(response.body).decode()}: see --cors of serve"}
        headers = {
            name: value
            for name, value in response.headers.items()
            if name not in ("content-length", "content-type")
        }
        return JSONResponse(content, response.status_code, headers)
