"""Extensions of the inference protocol: what Triton's clients ask for beside inference."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from .body import read_body
from .model_config import model_config
from .query import StrictRoute
from .request_refusal import RequestRefusal, malformed
from .service import VERSION, Service
from .statistics import Statistics
from .wire import ERRORS, INDEX_BODY, Responses

_LARGEST_INDEX_REQUEST = 1 << 16  # bytes
_MODEL = ("/models/{model}", "/models/{model}/versions/{version}")
# Path below /v2 -> what is refused there. Models are loaded when the service starts.
_ABSENT = {
    "/repository/models/{model}/load": "loading models",
    "/repository/models/{model}/unload": "unloading models",
    "/trace/setting": "tracing",
    "/models/{model}/trace/setting": "tracing",
    "/logging": "setting what is logged",
    "/systemsharedmemory/{rest:path}": "shared memory",
    "/cudasharedmemory/{rest:path}": "shared memory",
    "/models/{model}/generate": "generating text",
    "/models/{model}/generate_stream": "generating text",
}


class IndexEntry(BaseModel):
    """One model of the repository."""

    name: str
    version: str
    state: str = Field(description="READY or UNAVAILABLE.")
    reason: str = Field(default="", description="Why it is not ready.")


class IndexRequest(BaseModel):
    """What the index is asked."""

    model_config = ConfigDict(extra="forbid")

    ready: StrictBool = Field(default=False, description="Only models that are ready.")


def supported_extensions(service: Service) -> list[str]:
    """Names of the extensions that are here in full."""
    names = ["binary_tensor_data", "classification", "model_configuration", "statistics"]
    return names if service.replica is None else names[:-1]


def require_model(service: Service, model: str, version: str) -> None:
    """Raises RequestRefusal (404) for another model or version."""
    if model != service.model or version != VERSION:
        raise RequestRefusal(
            404, "unknown_model", f"there is only model {service.model}, version {VERSION}"
        )


def statistics_routes(service: Service) -> APIRouter:
    """The route of the model's counts and times."""
    router = _router()

    async def all_statistics() -> Statistics:
        _require_countable(service)
        return Statistics(model_stats=[service.statistics])

    async def statistics(model: str, version: str = VERSION) -> Statistics:
        require_model(service, model, version)
        return await all_statistics()

    router.get("/models/stats", summary="Counts and times of all models")(all_statistics)
    for below in _MODEL:
        router.get(f"{below}/stats", summary="Counts and times of the model")(statistics)
    return router


def extension_routes(service: Service) -> APIRouter:
    """Configuration and index of the model, and refusals of what is not here."""
    router = _router()

    async def config(model: str, version: str = VERSION) -> dict[str, Any]:
        require_model(service, model, version)
        return model_config(service)

    for below in _MODEL:
        router.get(f"{below}/config", summary="The model as Triton describes one")(config)

    @router.post(
        "/repository/index",
        summary="Models that are served",
        responses=ERRORS,
        openapi_extra=INDEX_BODY,
    )
    async def index(request: Request) -> list[IndexEntry]:
        only_ready = (await _index_request(service, request)).ready
        alive = service.batcher.alive
        entry = IndexEntry(name=service.model, version=VERSION, state="READY")
        if not alive:
            entry = entry.model_copy(update={"state": "UNAVAILABLE", "reason": "stopping"})
        return [entry] if alive or not only_ready else []

    for path, subject in _ABSENT.items():
        router.api_route(path, methods=["GET", "POST"], include_in_schema=False)(_absent(subject))
    return router


def _router() -> APIRouter:
    missing: Responses = {status: ERRORS[status] for status in (404, 422)}
    return APIRouter(
        prefix="/v2",
        tags=["Extensions of the protocol"],
        route_class=StrictRoute,
        responses=missing,
    )


def _absent(subject: str) -> Any:
    async def refuse() -> None:
        raise RequestRefusal(
            404, "extension", f"{subject} is not supported here; GET /v2 names what is"
        )

    return refuse


def _require_countable(service: Service) -> None:
    if service.replica is not None:
        raise RequestRefusal(
            404, "extension", "replicas count for themselves: add up /metrics over label replica"
        )


async def _index_request(service: Service, request: Request) -> IndexRequest:
    """The body, which may be empty. Raises RequestRefusal."""
    limit = _LARGEST_INDEX_REQUEST
    with service.share(request) as share:
        body = await read_body(request, limit, service.config, share)
    if not body:
        return IndexRequest()
    try:
        return IndexRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part)[:40] for part in first["loc"]) or "the body"
        raise malformed(f"{location}: {first['msg'][:120]}") from None
