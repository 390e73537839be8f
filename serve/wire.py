"""Bodies of requests and answers, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Error(BaseModel):
    """Any refusal."""

    error: str = Field(description="What was wrong and what to change.")


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1: any batch size.")


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str = Field(description="The runtime that computes.")
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, str | int] = Field(
        description="Artifact, its precision and parity, and the largest batch."
    )


class ModelReady(BaseModel):
    name: str
    ready: bool


class Prediction(BaseModel):
    label: str
    index: int = Field(description="Position of the label in the logits.")
    probability: float = Field(
        description="Softmax of the logits over the bundle's temperature: calibrated where it is."
    )


class Milliseconds(BaseModel):
    """Where the time of a request went."""

    decode: float
    preprocess: float
    queue: float = Field(description="Waiting for the runtime.")
    host_to_device: float = Field(description="Of the whole batch, as the next two.")
    compute: float
    device_to_host: float
    total: float = Field(description="From the last byte received.")


class Classification(BaseModel):
    model: str
    predictions: list[Prediction] = Field(description="Most probable first.")
    milliseconds: Milliseconds
    batch: int = Field(description="Images that were computed together.")


Responses = dict[int | str, dict[str, Any]]
ERRORS: Responses = {
    400: {"model": Error, "description": "The request cannot be read."},
    404: {"model": Error, "description": "No such model or version."},
    408: {"model": Error, "description": "The body took too long to arrive."},
    413: {"model": Error, "description": "Too many bytes, pixels or scans."},
    415: {"model": Error, "description": "A format or encoding that is not taken."},
    422: {"model": Error, "description": "A parameter that is unknown or outside its bounds."},
    503: {
        "model": Error,
        "description": "Overloaded or stopping; the request may be repeated.",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    },
}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """A schema whose fields are all there is."""
    return {
        "type": "object",
        "required": [*required],
        "properties": properties,
        "additionalProperties": False,
    }


_COUNT = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}
_TENSOR = _object(
    {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "data": {"type": "array", "items": {}},
        "parameters": _object({"binary_data_size": _COUNT}),
    },
    "name",
    "shape",
    "datatype",
)
_OUTPUT = _object(
    {
        "name": {"type": "string"},
        "parameters": _object({"binary_data": _FLAG, "classification": _COUNT}),
    },
    "name",
)
_REQUEST = _object(
    {
        "id": {"type": "string"},
        "parameters": _object({"binary_data_output": _FLAG, "timeout": _COUNT}),
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
    "inputs",
)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _REQUEST},
            "application/octet-stream": _BINARY,
        },
    }
}
INFER_RESPONSE: dict[str, Any] = {
    "description": "Logits, or `logit:index:label` of the best classes.",
    "content": {
        "application/json": {
            "schema": _object(
                {
                    "model_name": {"type": "string"},
                    "model_version": {"type": "string"},
                    "id": {"type": "string"},
                    "outputs": {"type": "array", "items": _TENSOR},
                },
                "model_name",
                "outputs",
            )
        },
        "application/octet-stream": _BINARY,
    },
}
CLASSIFY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _object({"file": _BINARY["schema"]}, "file")},
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
        },
    }
}
INDEX_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": _object({"ready": _FLAG})}},
    }
}
