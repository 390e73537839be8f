"""``/classify``: an image in, labels out."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request

from ..bundle.manifest import Manifest
from ..bundle.picture import FORMATS
from .batcher import BatchedLogits
from .body import read_body
from .query import StrictRoute
from .service import Prepared, Service
from .shares import probabilities
from .wire import CLASSIFY_BODY, ERRORS, Classification, Milliseconds, Prediction

TopK = Annotated[
    int | None,
    Query(ge=1, le=100_000, description="Number of labels; no more than the model has are given."),
]


def classify_routes(service: Service) -> APIRouter:
    """The route that takes an image file."""
    router = APIRouter(route_class=StrictRoute)
    classes = len(service.manifest.labels)

    @router.post(
        "/classify",
        summary="Labels of an uploaded image",
        description=f"The image as a form's only part or as the whole body. Formats: "
        f"{', '.join(FORMATS)}; at most {service.config.max_upload} bytes and "
        f"{service.config.max_pixels} pixels; of animated ones the first frame.",
        responses={status: ERRORS[status] for status in ERRORS if status != 404},
        openapi_extra=CLASSIFY_BODY,
    )
    async def classify(request: Request, top_k: TopK = None) -> Classification:
        limit = service.config.max_upload
        with service.share(request) as share:
            body = await read_body(request, limit, service.config, share)
            began, deadline = time.perf_counter(), service.deadline()
            kind = request.headers.get("content-type", "")
            prepared = await service.prepare(body, kind, deadline)
            del body  # its share of the budget ends here
        answer = await service.infer(prepared.inputs, deadline)
        count = min(top_k or service.config.top_k, classes)
        return Classification(
            model=service.model,
            predictions=_predictions(answer, service.manifest, count),
            milliseconds=_milliseconds(prepared, answer, began),
            batch=answer.batch.images,
        )

    return router


def _predictions(answer: BatchedLogits, manifest: Manifest, count: int) -> list[Prediction]:
    labels, shares = manifest.labels, probabilities(answer.logits[0], manifest.temperature)
    order = (-shares).argsort(kind="stable")[:count]
    return [Prediction(label=labels[k], index=int(k), probability=float(shares[k])) for k in order]


def _milliseconds(prepared: Prepared, answer: BatchedLogits, began: float) -> Milliseconds:
    batch = answer.batch
    seconds = {
        "decode": prepared.decode,
        "preprocess": prepared.preprocess,
        "queue": answer.queued,
        "host_to_device": batch.host_to_device,
        "compute": batch.compute,
        "device_to_host": batch.device_to_host,
        "total": time.perf_counter() - began,
    }
    return Milliseconds(**{name: round(1000 * value, 3) for name, value in seconds.items()})
