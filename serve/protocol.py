"""Open Inference Protocol v2 over REST: requests to tensors, logits to answers.

JSON as in the protocol, and its binary tensor extension: the header ``Inference-Header-
Content-Length`` gives the length of the JSON part, raw little-endian tensors follow it.
n images, C classes, H x W the input size.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic_core import from_json

from ..bundle.manifest import Manifest
from ..bundle.preprocess import Floats
from .classification import best_classes, length_prefixed
from .parameters import flag, parameters_of, require_fields, whole_number
from .request_refusal import RequestRefusal, malformed

HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPE = "FP32"
LARGEST_HEADER = 1 << 20  # bytes of JSON before binary tensors
_MOST_DEPTH = 16  # of nested lists


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asks for."""

    inputs: Floats  # [n, 3, H, W]
    id: str | None
    binary: bool  # whether the answer carries its tensor raw
    classes: int  # that many of the best in place of the logits; 0: the logits
    timeout: float  # seconds to the answer; 0: as long as the service gives


def header_length(value: str | None, body_length: int) -> int | None:
    """Length of the JSON part, if a tensor follows it. Raises RequestRefusal for what cannot be."""
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise malformed(f"{HEADER_LENGTH} is not a number")
    length = int(value)
    if length > min(body_length, LARGEST_HEADER):
        raise malformed(f"{HEADER_LENGTH} {length} is more than there is or may be")
    return length


def parse_infer(
    body: bytes, length: int | None, manifest: Manifest, max_batch: int
) -> InferRequest:
    """Read a request. Raises RequestRefusal (400) with what is wrong in it."""
    head = _object(body if length is None else body[:length])
    require_fields(head, ("id", "inputs", "outputs", "parameters"), "the request")
    tensors = head.get("inputs")
    if not isinstance(tensors, list) or len(tensors) != 1 or not isinstance(tensors[0], dict):
        raise malformed(f"inputs must be a list of one tensor, {manifest.input.name}")
    inputs = _inputs(tensors[0], body, length, manifest, max_batch)
    parameters = parameters_of(head, ("binary_data_output", "timeout"), "the request")
    output = _output_parameters(head, manifest.output.name)
    binary = flag(output, "binary_data")
    if binary is None:
        binary = flag(parameters, "binary_data_output")
    return InferRequest(
        inputs=inputs,
        id=_id(head),
        binary=binary is True,
        classes=whole_number(output, "classification"),
        timeout=whole_number(parameters, "timeout") / 1e6,
    )


def encode_infer(
    request: InferRequest, logits: Floats, manifest: Manifest, model: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of the answer. Raises RequestRefusal where the model gave NaN or infinity."""
    if not np.isfinite(logits).all():
        raise RequestRefusal(400, "nonfinite", "the model gives no finite answer to these values")
    classes = best_classes(logits, request.classes, manifest.labels) if request.classes else []
    output: dict[str, Any] = {
        "name": manifest.output.name,
        "datatype": "BYTES" if classes else DATATYPE,
        "shape": [len(logits), len(classes) // len(logits)] if classes else list(logits.shape),
    }
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [output]}
    if request.id is not None:
        answer["id"] = request.id
    if not request.binary:
        output["data"] = classes or logits.ravel().tolist()
        return json.dumps(answer).encode(), {"Content-Type": "application/json"}
    raw = length_prefixed(classes) if classes else logits.astype("<f4", copy=False).tobytes()
    output["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps(answer).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return head + raw, headers


def _object(data: bytes) -> dict[str, Any]:
    try:
        content = from_json(data, allow_inf_nan=True, cache_strings=False)
    except ValueError as error:  # too deep, NUL, not UTF-8: all of them
        raise malformed(f"not JSON ({str(error)[:120]})") from None
    if not isinstance(content, dict):
        raise malformed("the request must be a JSON object")
    return content


def _inputs(
    tensor: dict[str, Any], body: bytes, length: int | None, manifest: Manifest, max_batch: int
) -> Floats:
    require_fields(tensor, ("name", "shape", "datatype", "parameters", "data"), "an input")
    shape = _shape(tensor, manifest, max_batch)
    size = parameters_of(tensor, ("binary_data_size",), "an input").get("binary_data_size")
    data = tensor.get("data")
    if size is None:
        if length is not None and length != len(body):
            raise malformed(f"{len(body) - length} bytes follow the JSON part for no input")
        inputs = _listed(data, shape)
    elif data is None:
        inputs = _binary(body, length, size, shape)
    else:
        raise malformed("an input has data or binary_data_size, not both")
    _require_finite(inputs)
    return inputs


def _shape(tensor: dict[str, Any], manifest: Manifest, max_batch: int) -> tuple[int, ...]:
    spec = manifest.input
    if tensor.get("name") != spec.name:
        raise malformed(f"the input is called {spec.name}")
    if tensor.get("datatype") != DATATYPE:
        raise malformed(f"input {spec.name} takes datatype {DATATYPE}")
    shape = tensor.get("shape")
    fixed = spec.shape[1:]
    if not isinstance(shape, list) or not all(type(side) is int for side in shape):
        raise malformed("shape must be a list of integers")
    if shape[1:] != fixed or not 1 <= shape[0] <= max_batch:
        raise malformed(
            f"shape {str(shape)[:80]} is not [n, {', '.join(map(str, fixed))}] with n from 1 to "
            f"{max_batch}"
        )
    return tuple(shape)


def _binary(body: bytes, length: int | None, size: Any, shape: tuple[int, ...]) -> Floats:
    count = math.prod(shape)
    if length is None:
        raise malformed(f"binary_data_size needs the header {HEADER_LENGTH}")
    if type(size) is not int or size != 4 * count or size != len(body) - length:
        raise malformed(
            f"binary_data_size {str(size)[:40]}: this shape takes {4 * count} bytes and "
            f"{len(body) - length} follow the JSON part"
        )
    return np.frombuffer(body, "<f4", count, length).reshape(shape)


def _listed(data: Any, shape: tuple[int, ...]) -> Floats:
    if not isinstance(data, list):
        raise malformed("data must be a list of numbers")
    inner, depth = data, 1
    while inner and isinstance(inner[0], list):
        inner, depth = inner[0], depth + 1
        if depth > _MOST_DEPTH:
            raise malformed("data is nested too deeply")
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError):
        raise malformed("data is ragged: give it flat or nested as its shape") from None
    if array.dtype.kind not in "fiu":
        raise malformed("data must hold numbers only")
    if array.size != math.prod(shape) or (array.ndim != 1 and array.shape != shape):
        raise malformed(f"data has shape {list(array.shape)}, the request says {list(shape)}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32).reshape(shape)


def _require_finite(inputs: Floats) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduce(inputs, axis=None)  # not finite if any is not; four times as fast
    if not np.isfinite(total) and not np.isfinite(inputs).all():
        raise RequestRefusal(400, "nonfinite", "the input holds NaN or infinity")


def _id(head: dict[str, Any]) -> str | None:
    request_id = head.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= 256):
        raise malformed("id must be a string of at most 256 characters")
    return request_id


def _output_parameters(head: dict[str, Any], name: str) -> dict[str, Any]:
    outputs = head.get("outputs")
    if outputs is None or outputs == []:
        return {}
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise malformed("outputs must be a list of tensors")
    for output in outputs:
        require_fields(output, ("name", "parameters"), "an output")
        if output.get("name") != name:
            raise malformed(f"no output {str(output.get('name'))[:40]!r}: the only one is {name}")
    if len(outputs) > 1:
        raise malformed(f"output {name} is asked for {len(outputs)} times: ask once")
    return parameters_of(outputs[0], ("binary_data", "classification"), "an output")
