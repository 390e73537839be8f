"""Routes of the Open Inference Protocol v2."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from .. import __version__
from .body import read_body
from .compression import answer_coding, deflated
from .extensions import require_model, supported_extensions
from .protocol import DATATYPE, HEADER_LENGTH, encode_infer, header_length
from .query import StrictRoute
from .request_refusal import RequestRefusal
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
    router = APIRouter(
        prefix="/v2",
        tags=["Open Inference Protocol v2"],
        route_class=StrictRoute,
        responses={422: ERRORS[422]},
    )
    missing: Responses = {404: ERRORS[404]}
    sides = ", ".join(str(side) for side in service.manifest.input.shape[1:])

    @router.get("", summary="About the server")
    async def server() -> ServerMetadata:
        return ServerMetadata(
            name="mldr-deploy", version=__version__, extensions=supported_extensions(service)
        )

    @router.get("/health/live", summary="Whether the process runs")
    async def live() -> Live:
        return Live(live=True)

    @router.get("/health/ready", summary="Whether requests are taken", responses={503: ERRORS[503]})
    async def ready() -> Ready:
        require_ready(service)
        return Ready(ready=True)

    async def metadata(model: str, version: str = VERSION) -> ModelMetadata:
        require_model(service, model, version)
        return _metadata(service)

    async def model_ready(model: str, version: str = VERSION) -> ModelReady:
        require_model(service, model, version)
        require_ready(service)
        return ModelReady(name=service.model, ready=True)

    async def infer(request: Request, model: str, version: str = VERSION) -> Response:
        require_model(service, model, version)
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
            summary="Logits, or the best classes, of preprocessed images",
            description=f"Input: {DATATYPE} [n, {sides}], "
            "preprocessed as the bundle's manifest says. With the header "
            f"`{HEADER_LENGTH}`, raw little-endian tensors follow the JSON part. Bodies may be "
            "compressed (gzip, deflate), and answers are where Accept-Encoding asks for it. "
            "Parameters that are not named here are refused.",
            response_class=Response,
            responses={200: INFER_RESPONSE, **ERRORS},
            openapi_extra=INFER_BODY,
        )(infer)
    return router


def infer_paths(service: Service) -> list[str]:
    """Where tensors are sent: the paths of the one model, without and with its version."""
    model = f"/v2/models/{service.model}"
    return [f"{model}/infer", f"{model}/versions/{VERSION}/infer"]


async def infer_tensors(service: Service, request: Request) -> Response:
    """Answer one request of the protocol. Raises RequestRefusal."""
    binary = request.headers.get(HEADER_LENGTH)
    limit = service.config.max_upload if binary is None else service.max_tensor
    with service.share(request) as share:
        body = await read_body(request, limit, service.config, share)
        deadline = service.deadline()
        parsed = await service.parse(body, header_length(binary, len(body)), deadline)
        answer = await service.infer(parsed.inputs, service.shortened(deadline, parsed.timeout))
    content, headers = encode_infer(parsed, answer.logits, service.manifest, service.model, VERSION)
    coding = answer_coding(request.headers.get("accept-encoding"))
    if coding is not None:
        content, headers["Content-Encoding"] = deflated(content, coding), coding
    return Response(content, headers=headers)


def _metadata(service: Service) -> ModelMetadata:
    manifest, artifact = service.manifest, service.runtime.model.artifact
    tensors = [
        TensorMetadata(
            name=spec.name,
            datatype=DATATYPE,
            shape=[side if isinstance(side, int) else -1 for side in spec.shape],
        )
        for spec in (manifest.input, manifest.output)
    ]
    details: dict[str, Any] = {
        "artifact": service.runtime.model.path.name,
        "precision": service.runtime.model.precision,
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


def require_ready(service: Service) -> None:
    """Raises RequestRefusal (503) when the service does not take requests."""
    if not service.batcher.alive:
        raise RequestRefusal(503, "stopping", "the service is not taking requests", 1)
