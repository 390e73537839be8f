"""The service as clients see it: the protocol's JSON, uploads, metrics, documents."""

from __future__ import annotations

import html
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mldr_deploy.bundle.preprocess import preprocess
from mldr_deploy.bundle.reader import Bundle

MODEL = "test_resnet"


def call(
    url: str, data: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any], Any]:
    """(status, JSON body, headers) of one request."""
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


def test_metadata_tells_what_is_served(live: Any) -> None:
    _, told, _ = call(f"{live.url}/v2/models/{MODEL}")
    assert told["platform"] == "onnxruntime-cpu"
    parity = {"artifact": "student.onnx", "precision": "fp32", "max_batch": 16, "parity": "passed"}
    assert told["parameters"] == parity
    status, answer, _ = call(f"{live.url}/v2/models/another")
    assert status == 404 and "there is only model test_resnet, version 1" in answer["error"]


def test_nested_json_data_is_taken(live: Any, bundle: Bundle) -> None:
    inputs = bundle.golden.inputs[:1]
    tensor = {"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32"}
    body = json.dumps({"inputs": [tensor | {"data": inputs.tolist()}]}).encode()
    status, answer, _ = call(f"{live.url}/v2/models/{MODEL}/infer", body)
    assert status == 200
    np.testing.assert_allclose(answer["outputs"][0]["data"], bundle.golden.logits[0], atol=1e-4)


def tensor(**change: Any) -> bytes:
    whole = {"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0] * 3072}
    return json.dumps({"inputs": [whole | change]}).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "a list of one tensor, input"),
        (b"[" * 100_000, "not JSON"),
        (tensor(name="x"), "the input is called input"),
        (tensor(datatype="INT8"), "takes datatype FP32"),
        (tensor(shape=[1, 3, 32, 31]), r"is not [n, 3, 32, 32] with n from 1 to 16"),
        (tensor(shape=[17, 3, 32, 32]), "with n from 1 to 16"),
        (tensor(shape=[0, 3, 32, 32]), "with n from 1 to 16"),
        (tensor(shape=[True, 3, 32, 32]), "a list of integers"),
        (tensor(shape="x"), "a list of integers"),
        (tensor(data=[0] * 3071), "data has shape [3071]"),
        (tensor(data=[[0], [1, 2]]), "ragged"),
        (tensor(data=["0"] * 3072), "numbers only"),
        (tensor(data=[True] * 3072), "numbers only"),
        (tensor(data=[None] * 3072), "numbers only"),
        (tensor(data=[10**30] * 3072), "numbers only"),
        (tensor(data=[float("nan")] * 3072), "NaN or infinity"),
        (tensor(data=[1e39] * 3072), "NaN or infinity"),
        (tensor(data=None, parameters={"binary_data_size": 12288}), "needs the header"),
        (tensor(parameters=3), "parameters must be an object"),
        (json.dumps({"inputs": [], "id": 3}).encode(), "a list of one tensor"),
    ],
)
def test_a_wrong_tensor_is_refused_in_words(live: Any, body: bytes, said: str) -> None:
    status, answer, _ = call(f"{live.url}/v2/models/{MODEL}/infer", body)
    assert (status, said in answer["error"]) == (400, True), answer


@pytest.mark.parametrize("length", ["x", "-1", "9999999", "1e3", "²"])
def test_a_wrong_header_length_is_refused(live: Any, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    status, answer, _ = call(f"{live.url}/v2/models/{MODEL}/infer", tensor(), headers)
    assert status == 400 and "Inference-Header-Content-Length" in answer["error"]


def test_binary_of_another_size_is_refused(live: Any) -> None:
    head = tensor(data=None, parameters={"binary_data_size": 8})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    status, answer, _ = call(f"{live.url}/v2/models/{MODEL}/infer", head + b"12345678", headers)
    assert status == 400 and "this shape takes 12288 bytes and 8 follow" in answer["error"]


def form(data: bytes, name: str = "file", filename: str | None = "x.png") -> tuple[bytes, str]:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    head = f"--bound\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    return head + data + b"\r\n--bound--\r\n", "multipart/form-data; boundary=bound"


def expected(bundle: Bundle, index: int) -> list[tuple[str, float]]:
    logits = bundle.golden.logits[index].astype(np.float64) / bundle.manifest.temperature
    shares = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-shares)
    return [(bundle.manifest.labels[k], shares[k]) for k in order]


def test_an_upload_is_classified_as_the_golden_image(
    live: Any, bundle: Bundle, encode: Callable[..., bytes]
) -> None:
    for index, source in enumerate(bundle.golden.sources):
        body, kind = form(encode(source))
        for data, headers in ((body, {"Content-Type": kind}), (encode(source), {})):
            status, answer, _ = call(f"{live.url}/classify?top_k=4", data, headers)
            assert status == 200, answer
            wanted = expected(bundle, index)[:4]
            assert [p["label"] for p in answer["predictions"]] == [label for label, _ in wanted]
            got = [p["probability"] for p in answer["predictions"]]
            np.testing.assert_allclose(got, [share for _, share in wanted], atol=1e-4)
            assert bundle.manifest.labels[answer["predictions"][0]["index"]] == wanted[0][0]
    times = answer["milliseconds"]
    stages = ("decode", "preprocess", "queue", "host_to_device", "compute", "device_to_host")
    assert all(times[stage] >= 0 for stage in stages)
    assert sum(times[stage] for stage in stages) <= times["total"] + 0.01


def rotated(bundle: Bundle) -> tuple[Image.Image, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return Image.fromarray(bundle.golden.sources[1]).transpose(Image.Transpose.ROTATE_90), exif


def test_kinds_of_images_that_are_taken(
    live: Any, bundle: Bundle, encode: Callable[..., bytes]
) -> None:
    source = Image.fromarray(bundle.golden.sources[1])
    turned, exif = rotated(bundle)
    deep = Image.fromarray(np.asarray(source.convert("L")).astype(np.uint16) * 257)
    files = {
        "upright by EXIF": encode(turned, exif=exif.tobytes()),
        "grey": encode(source.convert("L")),
        "16-bit grey": encode(deep),
        "palette": encode(source.convert("P")),
        "transparent": encode(source.convert("RGBA")),
        "CMYK JPEG": encode(source.convert("CMYK"), "JPEG"),
        "progressive JPEG": encode(source, "JPEG", progressive=True),
        "animated GIF": encode(source, "GIF", save_all=True, append_images=[turned]),
        "animated WebP": encode(source, "WEBP", save_all=True, append_images=[source], lossless=1),
        "BMP": encode(source, "BMP"),
    }
    for kind, data in files.items():
        status, answer, _ = call(f"{live.url}/classify", data)
        assert status == 200, (kind, answer)
        if kind in ("upright by EXIF", "BMP", "animated WebP"):  # the same pixels: the same answer
            top = answer["predictions"][0]
            label, share = expected(bundle, 1)[0]
            assert top["label"] == label and abs(top["probability"] - share) < 1e-4, kind
    grey = preprocess([source.convert("L")], bundle.manifest.preprocessing)
    assert np.array_equal(preprocess([deep], bundle.manifest.preprocessing), grey)


def test_uploads_that_are_refused_in_words(
    live: Any, good: bytes, encode: Callable[..., bytes]
) -> None:
    body, kind = form(good)
    many = b"".join(form(b"x", filename=None)[0][:-11] for _ in range(40)) + b"--bound--\r\n"
    huge = encode(Image.new("1", (6000, 6000)))
    cases: list[tuple[bytes, dict[str, str], int, str]] = [
        (b"", {}, 400, "empty"),
        (b"<svg/>", {}, 415, "format taken here: JPEG, PNG, WEBP, GIF, BMP, TIFF"),
        (b"RIFF1234AVI LIST", {}, 415, "format taken here"),
        (good[: len(good) // 2], {}, 400, "damaged PNG"),
        (good[:20], {}, 400, "damaged PNG"),
        (huge, {}, 413, "6000 x 6000 pixels, at most 25000000"),
        (b"\xff\xd8" + b"\xff\xda\0\x08\1\1\0\0\x3f\0\x00" * 200, {}, 413, "more than 100 scans"),
        (b"x" * (17 << 20), {}, 413, "at most 16777216 are taken"),
        (body, {"Content-Type": "multipart/form-data"}, 400, "no boundary"),
        (body[:-20], {"Content-Type": kind}, 400, "cut off"),
        (b"--other\r\n", {"Content-Type": kind}, 400, "damaged"),
        (many, {"Content-Type": kind}, 400, "parts"),
        (b"--bound--\r\n", {"Content-Type": kind}, 400, "form"),
    ]
    for data, headers, wanted, said in cases:
        status, answer, _ = call(f"{live.url}/classify", data, headers)
        assert (status, said in answer["error"]) == (wanted, True), (said, status, answer)


def test_parameters_and_routes_that_are_not_there(live: Any, good: bytes) -> None:
    for query in ("top_k=0", "top_k=x", "top_k=-1"):
        status, answer, _ = call(f"{live.url}/classify?{query}", good)
        assert status == 422 and "top_k" in answer["error"]
    assert call(f"{live.url}/nowhere")[0] == 404
    status, answer, headers = call(f"{live.url}/classify")
    assert status == 405 and headers["Allow"] == "POST" and "error" in answer


def test_metrics_count_what_happened(live: Any, good: bytes) -> None:
    def counted() -> dict[str, float]:
        from prometheus_client.parser import text_string_to_metric_families

        text = urllib.request.urlopen(f"{live.url}/metrics", timeout=30).read().decode()
        return {
            s.name + "".join(s.labels.values()): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }

    before = counted()
    call(f"{live.url}/classify", good)
    call(f"{live.url}/classify", b"<svg/>")
    after = counted()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("mldr_requests_total/classify200") == 1
    assert grown("mldr_requests_total/classify415") == 1
    assert grown("mldr_rejections_totalformat") == 1
    assert grown("mldr_images_total") == 1 and grown("mldr_batch_images_bucket1.0") == 1
    for stage in ("decode", "preprocess", "queue", "compute", "host_to_device", "device_to_host"):
        assert grown(f"mldr_stage_seconds_count{stage}") == 1
    assert after["mldr_queue_images"] == 0
    three = {"shape": [3, 3, 32, 32], "data": [0] * 9216}
    assert call(f"{live.url}/v2/models/{MODEL}/infer", tensor(**three))[0] == 200
    before, after = after, counted()
    assert grown("mldr_images_total") == 3 and grown("mldr_batch_images_sum") == 3
    assert grown("mldr_requests_total/v2/models/{model}/infer200") == 1
    assert grown("mldr_stage_seconds_counttotal") == 1


def test_the_api_describes_itself(live: Any) -> None:
    status, document, _ = call(f"{live.url}/openapi.json")
    assert status == 200 and {"/classify", "/metrics", "/v2/models/{model}/infer"} <= set(
        document["paths"]
    )


class Links(HTMLParser):
    """Everything that a page could load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        names = ("href", "src", "action", "data", "srcset")
        self.found += [value for name, value in attrs if name in names]


def test_the_page_of_the_api_needs_no_other_host(live: Any) -> None:
    with urllib.request.urlopen(f"{live.url}/docs", timeout=30) as answer:
        text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    links = Links()
    links.feed(text)
    assert sorted(links.found) == ["classify", "metrics", "openapi.json"]
    assert not {"script", "link", "img", "iframe"} & links.tags
    assert set(re.findall(r"https?://[^/<\"]+", text)) == {live.url}  # the curl line
    assert "url(" not in text and "@import" not in text and policy.startswith("default-src 'none'")
    for found in links.found:
        request = urllib.request.Request(f"{live.url}/{found}", method="GET")
        try:
            urllib.request.urlopen(request, timeout=30).close()
        except urllib.error.HTTPError as error:
            assert found == "classify" and error.code == 405  # the form sends POST
    _, document, _ = call(f"{live.url}/openapi.json")
    for path, methods in document["paths"].items():
        assert html.escape(path) in text
        assert all(html.escape(told["summary"]) in text for told in methods.values())
    assert all(name in text for name in document["components"]["schemas"])
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert call(f"{live.url}{path}")[0] == 404
