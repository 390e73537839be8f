"""Routes of the Open Inference Protocol v2."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from .. import __version__
from .body import declared_length, read_body
from .protocol import DATATYPE, HEADER_LENGTH, encode_infer, header_length
from .refusal import Refusal
from .service import VERSION, Service
from .wire import (
    ERRORS,
    INFER_BODY,
    INFER_RESPONSE,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    Responses,
    ServerMetadata,
    TensorMetadata,
)


def inference_routes(service: Service) -> APIRouter:
    """``/v2`` and what lies below it."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
    missing: Responses = {404: ERRORS[404]}
    sides = ", ".join(str(side) for side in service.manifest.input.shape[1:])

    @router.get("", summary="About the server")
    async def server() -> ServerMetadata:
        return ServerMetadata(
            name="mldr-deploy", version=__version__, extensions=["binary_tensor_data"]
        )

    @router.get("/health/live", summary="Whether the process runs")
    async def live() -> Live:
        return Live(live=True)

    @router.get("/health/ready", summary="Whether requests are taken", responses={503: ERRORS[503]})
    async def ready() -> Ready:
        _require_ready(service)
        return Ready(ready=True)

    async def metadata(model: str, version: str = VERSION) -> ModelMetadata:
        _require_known(service, model, version)
        return _metadata(service)

    async def model_ready(model: str, version: str = VERSION) -> ModelReady:
        _require_known(service, model, version)
        _require_ready(service)
        return ModelReady(name=service.model, ready=True)

    async def infer(request: Request, model: str, version: str = VERSION) -> Response:
        _require_known(service, model, version)
        return await infer_tensors(service, request)

    for below in ("/models/{model}", "/models/{model}/versions/{version}"):
        router.get(below, summary="Inputs and outputs of the model", responses=missing)(metadata)
        router.get(
            f"{below}/ready",
            summary="Whether the model is ready",
            responses={**missing, 503: ERRORS[503]},
        )(model_ready)
        router.post(
            f"{below}/infer",
            summary="Logits of preprocessed images",
            description=f"Input: {DATATYPE} [n, {sides}], "
            "preprocessed as the bundle's manifest says. With the header "
            f"`{HEADER_LENGTH}`, raw little-endian tensors follow the JSON part.",
            response_class=Response,
            responses={200: INFER_RESPONSE, **ERRORS},
            openapi_extra=INFER_BODY,
        )(infer)
    return router


def infer_path(service: Service) -> str:
    """Where tensors are sent: the path of the one model, without a version."""
    return f"/v2/models/{service.model}/infer"


async def infer_tensors(service: Service, request: Request) -> Response:
    """Answer one request of the protocol. Raises Refusal."""
    binary = request.headers.get(HEADER_LENGTH)
    limit = service.config.max_upload if binary is None else service.max_tensor
    with service.budget.holding(declared_length(request, limit)):
        body = await read_body(request, limit, service.config.body_timeout)
        deadline = service.deadline()
        parsed = await service.parse(body, header_length(binary, len(body)), deadline)
        answer = await service.infer(parsed.inputs, deadline)
    content, headers = encode_infer(parsed, answer.logits, service.manifest, service.model, VERSION)
    return Response(content, headers=headers)


def _metadata(service: Service) -> ModelMetadata:
    manifest, artifact = service.manifest, service.runtime.artifact
    tensors = [
        TensorMetadata(
            name=spec.name,
            datatype=DATATYPE,
            shape=[side if isinstance(side, int) else -1 for side in spec.shape],
        )
        for spec in (manifest.input, manifest.output)
    ]
    details: dict[str, Any] = {
        "artifact": service.runtime.file.name,
        "precision": service.runtime.precision,
        "max_batch": service.max_batch,
        "parity": artifact.status if artifact else "reference",
    }
    return ModelMetadata(
        name=service.model,
        versions=[VERSION],
        platform=service.runtime.name,
        inputs=tensors[:1],
        outputs=tensors[1:],
        parameters=details,
    )


def _require_known(service: Service, model: str, version: str) -> None:
    if model != service.model or version != VERSION:
        raise Refusal(
            404, "unknown_model", f"there is only model {service.model}, version {VERSION}"
        )


def _require_ready(service: Service) -> None:
    if not service.batcher.alive:
        raise Refusal(503, "stopping", "the service is not taking requests", 1)
