"""Compressed bodies: taken as their plain form, within the same limits, or refused in words."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.serve.compression import answer_coding, inflated, request_coding
from mldr_deploy.serve.request_refusal import RequestRefusal

INFER = "/v2/models/test_resnet/infer"
MIB = 1 << 20
HEADER = "Inference-Header-Content-Length"
Ask = Callable[..., Any]


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "GZIP": gzip.compress,
    "x-gzip": gzip.compress,
    "identity": bytes,
    "identity, gzip": gzip.compress,
}


def tensors(bundle: Bundle, **output: Any) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a plain binary request for the first three golden images."""
    raw = bundle.golden.inputs[:3].astype("<f4").tobytes()
    tensor = {
        "name": "input",
        "shape": [3, 3, 32, 32],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "logits", **output}]}).encode()
    return head + raw, {HEADER: str(len(head))}


@pytest.mark.parametrize("coding", PACK)
def test_a_compressed_body_is_its_plain_form(
    live: Any, ask: Ask, bundle: Bundle, good: bytes, coding: str
) -> None:
    said = {"Content-Encoding": coding}
    body, headers = tensors(bundle)  # the header's length is that of the plain JSON
    answer = ask(live, "POST", INFER, PACK[coding](body), headers | said)
    got = np.reshape(answer.json["outputs"][0]["data"], (3, 10))
    np.testing.assert_allclose(got, bundle.golden.logits[:3], atol=1e-4)
    values = bundle.golden.inputs[0].ravel().tolist()
    tensor = {"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": values}
    listed = json.dumps({"inputs": [tensor]}).encode()
    got = ask(live, "POST", INFER, PACK[coding](listed), said).json["outputs"][0]["data"]
    np.testing.assert_allclose(got, bundle.golden.logits[0], atol=1e-4)
    answer = ask(live, "POST", "/classify?top_k=1", PACK[coding](good), said)
    assert answer.json["predictions"][0]["index"] == bundle.golden.logits[0].argmax()
    index = ask(live, "POST", "/v2/repository/index", PACK[coding](b'{"ready": true}'), said)
    assert [entry["name"] for entry in index.json] == ["test_resnet"]


def test_a_compressed_body_in_chunks(live: Any, ask: Ask, good: bytes, bundle: Bundle) -> None:
    packed = gzip.compress(good)
    pieces = iter([packed[:1], packed[1:100], packed[100:]])
    answer = ask(live, "POST", "/classify", pieces, {"Content-Encoding": "gzip"})
    assert answer.json["predictions"][0]["index"] == bundle.golden.logits[0].argmax()


def test_other_codings_and_damaged_bodies_are_refused(live: Any, ask: Ask, good: bytes) -> None:
    packed = gzip.compress(good)
    cases: list[tuple[str, bytes, int, str]] = [
        ("br", good, 415, "content encoding 'br': send gzip, deflate or plain"),
        ("zstd", good, 415, "'zstd'"),
        ("compress", good, 415, "'compress'"),
        ("gzip, gzip", gzip.compress(packed), 415, "'gzip, gzip'"),
        ("gzip, br", packed, 415, "'gzip, br'"),
        ("gzip", good, 400, "no gzip stream"),
        ("gzip", b"", 400, "cut off"),
        ("gzip", zlib.compress(good), 400, "no gzip stream"),
        ("deflate", packed, 400, "no deflate stream"),
        ("deflate", raw_deflate(good), 400, "no deflate stream"),
        ("gzip", packed[:-1], 400, "cut off"),
        ("gzip", packed[: len(packed) // 2], 400, "cut off"),
        ("gzip", packed + b"x", 400, "bytes follow its end"),
        ("gzip", packed + packed, 400, "bytes follow its end"),
        ("gzip", packed[:-8] + bytes(8), 400, "no gzip stream"),  # its checksum
    ]
    for coding, body, status, said in cases:
        for path in ("/classify", INFER):
            answer = ask(live, "POST", path, body, {"Content-Encoding": coding})
            assert (answer.status, said in answer.error) == (status, True), (coding, answer)
            assert answer.headers["Accept-Encoding"] == ("gzip, deflate" if status == 415 else None)


def test_limits_hold_for_what_is_inflated(limited: Any, ask: Ask) -> None:
    exactly, above = zlib.compress(bytes(MIB)), zlib.compress(bytes(MIB + 1))
    deflate = {"Content-Encoding": "deflate"}
    assert ask(limited, "POST", "/classify", exactly, deflate).status == 415  # read, and no image
    for path in ("/classify", INFER):
        answer = ask(limited, "POST", path, above, deflate)
        assert answer.status == 413 and "more than 1048576 bytes" in answer.error
    answer = ask(limited, "POST", "/v2/repository/index", zlib.compress(bytes(1 << 17)), deflate)
    assert answer.status == 413 and "more than 65536 bytes" in answer.error


def test_bombs_hold_up_nobody(limited: Any, ask: Ask, good: bytes, bundle: Bundle) -> None:
    """128 MiB in 128 KiB, nine times: refused, in bounded memory."""
    stream = zlib.compressobj(wbits=31)
    bomb = b"".join(stream.compress(bytes(MIB)) for _ in range(128)) + stream.flush()
    before = limited.memory("VmHWM")
    statuses: list[int] = []

    def throw(path: str, headers: dict[str, str]) -> None:
        said = {"Content-Encoding": "gzip", **headers}
        statuses.extend(ask(limited, "POST", path, bomb, said).status for _ in range(3))

    targets = [("/classify", {}), (INFER, {}), (INFER, {HEADER: "100"})]
    threads = [threading.Thread(target=throw, args=target) for target in targets]
    for thread in threads:
        thread.start()
    for _ in range(5):  # others are served meanwhile
        answer = ask(limited, "POST", "/classify", good)
        assert answer.json["predictions"][0]["index"] == bundle.golden.logits[0].argmax()
    for thread in threads:
        thread.join()
    assert statuses == [413] * 9 and limited.memory("VmHWM") - before < 60 * MIB


def test_a_bomb_is_refused_before_its_end_has_come(limited: Any) -> None:
    part = zlib.compress(bytes(8 * MIB))[:-16]
    head = (
        "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Encoding: deflate\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(part) + 1000}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", limited.port), timeout=20) as line:
        line.sendall(head.encode() + part)
        said = b""
        while b"HTTP/1.1 4" not in said and (more := line.recv(4096)):
            said += more
    assert b"HTTP/1.1 413" in said


def test_a_compressed_body_holds_what_it_inflates_to(live: Any, good: bytes) -> None:
    """Not the most it could be: of 16 MiB each, 40 would not fit the budget."""
    packed = gzip.compress(good)
    head = "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
    head += f"Content-Length: {len(packed)}\r\n\r\n"
    lines = [socket.create_connection(("127.0.0.1", live.port), timeout=30) for _ in range(40)]
    for part in (head.encode() + packed[:-1], packed[-1:]):
        for line in lines:
            line.sendall(part)
    for line in lines:
        assert line.recv(64).startswith(b"HTTP/1.1 200")
        line.close()


def test_answers_are_compressed_where_that_is_asked_for(
    live: Any, ask: Ask, bundle: Bundle
) -> None:
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}
    for output in ({}, {"parameters": {"binary_data": True}}):
        body, headers = tensors(bundle, **output)
        plain = ask(live, "POST", INFER, body, headers)
        for accepted, coding in (
            ("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate", "gzip"),
            ("gzip;q=0.5, deflate;q=1", "deflate"), ("br, gzip;q=0.1", "gzip"), ("GZIP", "gzip"),
            ("br", None), ("gzip;q=0", None), ("identity", None), ("*", None), ("", None),
        ):  # fmt: skip
            asked = headers | {"Accept-Encoding": accepted}
            answer = ask(live, "POST", INFER, body, asked)
            assert answer.headers["Content-Encoding"] == coding, accepted
            assert answer.headers[HEADER] == plain.headers[HEADER]  # of the plain JSON
            assert unpack[coding](answer.body) == plain.body
    refused = ask(live, "POST", INFER, b"{}", {"Accept-Encoding": "gzip"})
    assert refused.status == 400 and "inputs" in refused.error  # clients read errors plain


@pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 18) - 1, (1 << 19) + 7])
def test_pieces_of_any_size_inflate_to_the_whole(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 4, size, np.uint8).tobytes()
    packed = gzip.compress(data, 1)

    async def whole(step: int) -> bytes:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(packed), step):
                yield packed[start : start + step]
            yield b""

        return b"".join([piece async for piece in inflated(chunks(), "gzip")])

    for step in (997, 1 << 20):
        assert asyncio.run(whole(step)) == data


def test_words_of_the_headers() -> None:
    assert request_coding([]) is request_coding(["identity", " "]) is None
    assert request_coding(["Deflate"]) == "deflate"
    with pytest.raises(RequestRefusal, match="'gzip, br'"):
        request_coding(["gzip", "br"])
    assert answer_coding(None) is answer_coding("gzip;q=x") is answer_coding("deflate;q=0") is None
    assert answer_coding("deflate;q=0.5,gzip;q=0.5") == "deflate"
