"""Everything that a request asks for is answered, or refused by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.reader import Bundle

INFER = "/v2/models/test_resnet/infer"
VERSIONED = "/v2/models/test_resnet/versions/1/infer"
Part = tuple[str, bytes]  # its disposition, its content


def form(*parts: Part, end: bytes = b"") -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a multipart form; ``end`` comes behind it."""
    pieces = [
        f"--b\r\nContent-Disposition: form-data; {how}\r\n\r\n".encode() + data + b"\r\n"
        for how, data in parts
    ]
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return b"".join(pieces) + b"--b--\r\n" + end, headers


def file(data: bytes, field: str = "file", name: str = "x.png") -> Part:
    return f'name="{field}"; filename="{name}"', data


@pytest.mark.parametrize("field", ["file", "image", "Datei ä", ""])
def test_the_only_part_is_the_image_whatever_it_is_called(
    live: Any, ask: Callable[..., Any], bundle: Bundle, encode: Callable[..., bytes], field: str
) -> None:
    best = bundle.golden.logits.argmax(1)
    other = int(np.flatnonzero(best != best[0])[0])
    for index in (0, other):  # two answers: the form decides, not chance
        image = encode(bundle.golden.sources[index])
        for part in (file(image, field), (f'name="{field}"', image)):
            answer = ask(live, "POST", "/classify?top_k=1", *form(part))
            assert answer.json["predictions"][0]["index"] == best[index]


def test_a_form_with_more_than_its_file_is_refused(
    live: Any, ask: Callable[..., Any], bundle: Bundle, encode: Callable[..., bytes]
) -> None:
    one, two = (encode(source) for source in bundle.golden.sources[:2])
    first, text = file(one, name="one.png"), file(b"text", name="notes.txt")
    several: list[tuple[list[Part], str]] = [
        ([first, file(two, name="two.png")], "2 files ('one.png', 'two.png')"),
        ([file(two, name="two.png"), first], "2 files ('two.png', 'one.png')"),
        ([first, first], "2 files"),
        ([first, text], "2 files ('one.png', 'notes.txt')"),
        ([text, first], "2 files ('notes.txt', 'one.png')"),
        ([first, file(b"", name="")], "2 files"),
        ([first, file(two, "other"), text], "3 files"),
        ([first, ('name="top_k"', b"3")], "unknown field of the form ('top_k')"),
        ([('name="note"', b"hello"), first], "unknown field of the form ('note')"),
        ([first, ('name="a"', b"1"), ('name="b"', b"2")], "('a', 'b')"),
        ([('name="a"', one), ('name="b"', two)], "no file"),
        ([], "form"),
    ]
    for parts, said in several:
        answer = ask(live, "POST", "/classify", *form(*parts))
        assert (answer.status, said in answer.error) == (400, True), (said, answer.error)
    for behind in (form(file(two))[0], two):
        answer = ask(live, "POST", "/classify", *form(first, end=behind))
        assert answer.status == 400 and "bytes follow its end" in answer.error
    assert ask(live, "POST", "/classify", *form(first, end=b"\r\n")).status == 200


PATHS = {
    "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/metrics", "/docs", "/",
    "/openapi.json", "/health", "/healthz", "/v2/models/test_resnet",
    "/v2/models/test_resnet/ready",
    "/v2/models/test_resnet/config", "/v2/models/test_resnet/stats",
    "/v2/models/test_resnet/versions/1", "/v2/models/test_resnet/versions/1/ready",
    "/v2/models/test_resnet/versions/1/config", "/v2/models/test_resnet/versions/1/stats",
}  # fmt: skip


def test_parameters_in_the_url_are_known_or_refused(
    live: Any, ask: Callable[..., Any], good: bytes
) -> None:
    posts = ["/classify", INFER, VERSIONED, "/v2/repository/index"]
    for method, path in [("GET", p) for p in PATHS] + [("POST", p) for p in posts]:
        for name in ("foo", "Top_K", "topk", ""):
            answer = ask(live, method, f"{path}?{name}=3", good if method == "POST" else None)
            assert answer.status == 422 and f"query.{name}:" in answer.error, (path, answer)
    answer = ask(live, "POST", "/classify?top_k=2&top=3", good)
    assert answer.status == 422 and "query.top: " in answer.error and "takes top_k" in answer.error
    answer = ask(live, "POST", "/classify?top_k=2&top_k=3", good)
    assert answer.status == 422 and "query.top_k: given 2 times" in answer.error
    assert len(ask(live, "POST", "/classify?top_k=2", good).json["predictions"]) == 2
    assert ask(live, "GET", "/nowhere?foo=1").status == 404


def request(
    parameters: Any = None, tensor: Any = None, output: Any = None, **fields: Any
) -> dict[str, Any]:
    """An inference request, with parameters here and there."""
    content: dict[str, Any] = {
        "inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32"}],
        "outputs": [{"name": "logits"}],
    }
    content["inputs"][0] |= {"data": [0.5] * 3072} | (tensor or {})
    content["outputs"][0] |= output or {}
    return content | ({} if parameters is None else {"parameters": parameters}) | fields


REFUSED: list[tuple[dict[str, Any], str]] = [
    (request(foo=1), "the request has no field 'foo'"),
    (request(output=None, Outputs=[]), "the request has no field 'Outputs'"),
    (request(tensor={"foo": 1}), "an input has no field 'foo'"),
    (request(output={"classification": 2}), "an output has no field 'classification'"),
    (request({"classification": 2}), "'classification' of the request"),
    (request({"my_parameter": 42}), "'my_parameter' of the request"),
    (request({"headers": {}}), "'headers' of the request"),
    (request({"triton_final_response": True}), "'triton_final_response'"),
    (request({"priority": 1}), "'priority' of the request is not supported: all requests wait"),
    (request({"sequence_id": 7, "sequence_start": True}), "'sequence_id' of the request"),
    (request({"sequence_id": "a"}), "the model keeps nothing between requests"),
    (request({"sequence_end": True}), "'sequence_end'"),
    (request({"timeout": -1}), "'timeout' must be a whole number"),
    (request({"timeout": "1"}), "'timeout' must be a whole number"),
    (request({"timeout": 1.5}), "'timeout' must be a whole number"),
    (request({"binary_data_output": 1}), "'binary_data_output' must be true or false"),
    (request(tensor={"parameters": {"content_type": "np"}}), "'content_type' of an input"),
    (request(tensor={"parameters": {"shared_memory_region": "a"}}), "shared memory"),
    (request(tensor={"parameters": {"binary_data_size": 12288}}), "data or binary_data_size"),
    (request(output={"parameters": {"foo": 1}}), "'foo' of an output"),
    (request(output={"parameters": {"shared_memory_region": "a"}}), "shared memory"),
    (request(output={"parameters": {"binary_data": "yes"}}), "'binary_data' must be true or"),
    (request(output={"parameters": {"classification": -1}}), "'classification' must be a whole"),
    (request(output={"parameters": {"classification": True}}), "'classification' must be a"),
    (request(output={"parameters": {"classification": "2"}}), "'classification' must be a"),
    (request(output={"name": "probabilities"}), "no output 'probabilities': the only one is"),
    (request(outputs=[{"name": "logits"}, {"name": "x"}]), "no output 'x'"),
    (request(outputs=[{"name": "logits"}] * 2), "asked for 2 times"),
]


@pytest.mark.parametrize(("content", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_an_inference_request_asks_in_vain_is_refused(
    live: Any, ask: Callable[..., Any], content: dict[str, Any], said: str
) -> None:
    for path in (INFER, VERSIONED):
        answer = ask(live, "POST", path, json.dumps(content))
        assert (answer.status, said in answer.error) == (400, True), answer.error


def test_parameters_that_mean_none_are_taken(live: Any, ask: Callable[..., Any]) -> None:
    plain = ask(live, "POST", INFER, json.dumps(request())).json["outputs"]
    none = {"sequence_id": 0, "sequence_start": False, "sequence_end": False, "priority": 0}
    nothing = request({**none, "timeout": 0, "binary_data_output": False}, id="")
    nothing["outputs"][0]["parameters"] = {"classification": 0, "binary_data": False}
    nothing["inputs"][0]["parameters"] = None
    assert ask(live, "POST", INFER, json.dumps(nothing)).json["outputs"] == plain


def test_an_output_overrides_the_requests_binary_data_output(
    live: Any, ask: Callable[..., Any]
) -> None:
    def raw(**said: Any) -> bool:
        answer = ask(live, "POST", INFER, json.dumps(request(**said)))
        return "Inference-Header-Content-Length" in answer.headers

    assert raw(parameters={"binary_data_output": True})
    assert raw(parameters={"binary_data_output": True}, outputs=[])
    assert not raw(
        parameters={"binary_data_output": True}, output={"parameters": {"binary_data": False}}
    )
    assert raw(output={"parameters": {"binary_data": True}}) and not raw()


def test_bytes_for_no_input_are_refused(live: Any, ask: Callable[..., Any]) -> None:
    head = json.dumps(request()).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    assert ask(live, "POST", INFER, head, headers).status == 200
    answer = ask(live, "POST", INFER, head + bytes(12288), headers)
    assert answer.status == 400 and "12288 bytes follow the JSON part for no" in answer.error


def test_a_timeout_is_kept(
    served: Any, launch: Callable[..., Any], ask: Callable[..., Any]
) -> None:
    """A batch that is not full waits 20 s here; whoever gives 0.1 s is answered long before."""
    live = launch(
        served, "--runtime", "onnxruntime-cpu", "--max-delay-ms", "20000", "--deadline", "60"
    )
    answer = ask(live, "POST", INFER, json.dumps(request({"timeout": 100_000})))
    assert answer.status == 503 and answer.headers["Retry-After"] and "in time" in answer.error
    full = request({"timeout": 50_000_000}, tensor={"shape": [16, 3, 32, 32], "data": [0] * 49152})
    assert ask(live, "POST", INFER, json.dumps(full)).status == 200
    stats = ask(live, "GET", "/v2/models/stats").json["model_stats"][0]
    assert stats["inference_stats"]["fail"]["count"] == 1
