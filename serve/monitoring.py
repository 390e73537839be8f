"""What watches a service: metrics for Prometheus, health for load balancers."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from .inference import require_ready
from .query import StrictRoute
from .service import Service
from .wire import ERRORS, Ready


def monitoring_routes(service: Service) -> APIRouter:
    """``/metrics``, and ``/health`` and ``/healthz``, which are ``/v2/health/ready`` by the names
    that load balancers try."""
    router = APIRouter(tags=["Monitoring"], route_class=StrictRoute, responses={422: ERRORS[422]})

    @router.get(
        "/metrics",
        summary="Counters and times in Prometheus's text format",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @router.get("/health", summary="Whether requests are taken", responses={503: ERRORS[503]})
    @router.get("/healthz", summary="Whether requests are taken", responses={503: ERRORS[503]})
    async def health() -> Ready:
        require_ready(service)
        return Ready(ready=True)

    return router
