"""The HTTP side: routes, and every refusal as the same JSON object."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from .body import BodyDrain
from .classify import classify_routes
from .cors import Cors
from .docs_page import docs_routes
from .extensions import extension_routes, statistics_routes
from .head_requests import HeadRequests
from .inference import infer_paths, infer_tensors, inference_routes
from .monitoring import monitoring_routes
from .query import require_query
from .request_refusal import RequestRefusal
from .service import Service


def create_app(service: Service) -> FastAPI:
    """The application over ``service``, which starts and stops with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title=f"mldr-deploy: {service.model}",
        version=__version__,
        summary="Image classification: uploads, and the Open Inference Protocol v2.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        openapi_url=None,  # its route would take any parameter
    )
    for routes in (  # tried in this order: what is asked often comes first
        classify_routes,
        statistics_routes,  # /v2/models/stats before a model of that name
        inference_routes,
        monitoring_routes,
        extension_routes,
        docs_routes,
    ):
        app.include_router(routes(service))

    _answer_errors(app, service)
    app.add_middleware(FastPath, service=service)
    app.add_middleware(BodyDrain)
    if service.config.cors:
        app.add_middleware(Cors, origins=service.config.cors)
    app.add_middleware(RequestCounter, service=service)
    app.add_middleware(HeadRequests)
    return app


def _answer_errors(app: FastAPI, service: Service) -> None:
    """Every refusal is the same JSON object, whoever raises it."""

    @app.exception_handler(RequestRefusal)
    async def refused(request: Request, refusal: RequestRefusal) -> JSONResponse:
        return _refused(service, refusal)

    @app.exception_handler(HTTPException)
    async def not_routed(request: Request, error: HTTPException) -> JSONResponse:
        path, headers = request.url.path[:100], dict(error.headers or {})
        message = error.detail
        if error.status_code == 404:
            message = f"there is nothing at {path}: /docs lists what there is"
        elif error.status_code == 405:
            headers["Allow"] = _with_head(headers.get("Allow", ""))
            message = f"{path} does not take {request.method[:20]}, only {headers['Allow']}"
        return JSONResponse({"error": message}, error.status_code, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        service.metrics.refused("parameters")
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{location}: {first['msg']}"}, 422)


def _with_head(allow: str) -> str:
    """The header ``Allow``, with HEAD where GET is."""
    methods = set(allow.split(", "))
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _refused(service: Service, refusal: RequestRefusal) -> JSONResponse:
    service.metrics.refused(refusal.reason)
    return JSONResponse({"error": str(refusal)}, refusal.status, refusal.headers)


class FastPath:
    """Tensors go past FastAPI's routing, which takes as long as a small model.

    Their route stays for the OpenAPI document. Refusals while the queue is full go past it too:
    routing them would slow down the requests that are being answered.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._classify = SimpleNamespace(path="/classify")
        tensors = SimpleNamespace(path="/v2/models/{model}/infer")
        self._routes = dict.fromkeys(infer_paths(service), tensors)
        self._routes["/classify"] = self._classify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            self._service.require_room()
            if route is self._classify:
                await self._app(scope, receive, send)
                return
            scope["route"] = route
            require_query(scope["query_string"], ())
            response = await infer_tensors(self._service, Request(scope, receive))
        except RequestRefusal as refusal:
            scope["route"] = route
            response = _refused(self._service, refusal)
        await response(scope, receive, send)


class RequestCounter:
    """Counts every answer by route and status, and times those of the model."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._metrics = service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route: Any = scope.get("route")
                endpoint = getattr(route, "path", "(none)")
                self._metrics.answered(endpoint, message["status"])
                if scope["method"] == "POST":
                    self._metrics.took("total", time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_counted)
