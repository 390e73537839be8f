"""Requests that nobody should send, drawn from a seed; the abuse tests send them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

Rng = np.random.Generator


@dataclass(frozen=True)
class Attack:
    """One request; ``good`` ones must be answered 200."""

    kind: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    good: bool = False
    cut: int | None = None  # send this many bytes of the body, then hang up


def picture(rng: Rng, mode: str = "RGB") -> Image.Image:
    height, width = rng.integers(1, 60, 2)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (height, width)).astype(np.uint16))
    return image.convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def valid(rng: Rng) -> bytes:
    """An honest file of any kind that is taken."""
    form, modes = [
        ("PNG", ["RGB", "L", "1", "P", "RGBA", "LA", "I;16"]),
        ("JPEG", ["RGB", "L", "CMYK"]),
        ("GIF", ["P", "L"]),
        ("BMP", ["RGB", "L", "1"]),
        ("WEBP", ["RGB", "RGBA"]),
    ][rng.integers(5)]
    image = picture(rng, modes[rng.integers(len(modes))])
    options: dict[str, Any] = {}
    if form in ("JPEG", "PNG", "WEBP") and rng.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 12))
        options["exif"] = exif.tobytes()
    if form in ("GIF", "WEBP") and rng.random() < 0.5:
        options |= {"save_all": True, "append_images": [picture(rng, image.mode)] * 3}
        options["append_images"] = [frame.resize(image.size) for frame in options["append_images"]]
    return encoded(image, form, **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 1, colour: int = 0, rows: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bomb(rng: Rng) -> bytes:
    """Small files that claim, or unpack to, very much."""
    side = int(rng.choice([3000, 20_000, 65_535, 2**31 - 1]))
    magic = b"\x89PNG\r\n\x1a\n"
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000), 1)) if side == 3000 else b""
    return [
        png(side, side, rows=bytes(1 << 20)),
        png(2800, 2800, 8, 2, bytes(2800 * 2801)),  # within the limit, and cut short
        magic + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)) + text,
        b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0" + bytes(6) + b"," + bytes(20),
        b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, side, -side, 1, 24, 0) + bytes(30),
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\x01\x03\x11\x01",
        b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\xff\xff\xff\xff\xff" + bytes(10),
        encoded(picture(rng), "JPEG", progressive=True) + b"\xff\xda\0\x02" * 1000,
    ][rng.integers(8)]


def stranger(rng: Rng) -> bytes:
    """Files that are no image, and some that are two things at once."""
    inner = valid(rng)
    return [
        b"",
        b"\0" * int(rng.integers(1, 5000)),
        rng.bytes(int(rng.integers(1, 5000))),
        b"%PDF-1.7\n" + inner,
        b"PK\x03\x04" + inner,
        inner + b"PK\x03\x04" + rng.bytes(100),
        b"GIF89a/*" + b"<script>alert(1)</script>*/",
        b"\xff\xd8\xff\xfe\x00\x20<?php system($_GET[0]); ?>" + inner,
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"II*\0" + rng.bytes(200),
        b"8BPS" + rng.bytes(200),
        b"RIFF" + rng.bytes(4) + b"WEBP" + rng.bytes(200),
        b"P6 100000 100000 255\n" + rng.bytes(10),
    ][rng.integers(13)]


def damaged(rng: Rng) -> bytes:
    """An honest file with something cut off, changed or put in."""
    data = bytearray(valid(rng))
    at = int(rng.integers(len(data)))
    match rng.integers(4):
        case 0:
            del data[at:]
        case 1:
            for _ in range(int(rng.integers(1, 20))):
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
        case 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 300)))
        case _:
            del data[at : at + int(rng.integers(1, 50))]
    return bytes(data)


def form(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """``data`` in a multipart form, mostly a proper one."""
    name = [b'; filename="x.png"', b"", b'; filename="../../etc/passwd"', b"; filename*=utf-8''%00"]
    head = b'--b\r\nContent-Disposition: form-data; name="file"' + name[rng.integers(4)]
    body = head + b"\r\n\r\n" + data + b"\r\n--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    match rng.integers(8):
        case 0:
            body = body[: int(rng.integers(len(body)))]
        case 1:
            kind = ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 300][
                rng.integers(2)
            ]
        case 2:
            body = body * 30
    return body, kind


def upload(rng: Rng, kind: str, make: Callable[[Rng], bytes]) -> Attack:
    data = make(rng)
    if rng.random() < 0.3:
        body, content = form(rng, data)
        return Attack(f"{kind} in a form", "/classify", body, {"Content-Type": content})
    content = str(rng.choice(["image/png", "image/jpeg", "text/html", "application/json", ""]))
    return Attack(kind, "/classify", data, {"Content-Type": content}, good=kind == "valid")


def tensor(rng: Rng, model: str) -> Attack:
    """A request of the inference protocol with one or two things wrong."""
    path = f"/v2/models/{model}/infer"
    weird: list[Any] = [
        None, True, -1, 1.5, "x", [], {}, [[]], 10**400, "\0", [None], {"a": [1]}, float("nan"),
    ]  # fmt: skip
    head: dict[str, Any] = {
        "name": "input",
        "shape": [1, 3, 32, 32],
        "datatype": "FP32",
        "data": rng.standard_normal(3072).round(2).tolist(),
    }
    request: dict[str, Any] = {"id": "1", "inputs": [head], "outputs": [{"name": "logits"}]}
    for _ in range(int(rng.integers(1, 3))):
        target = [head, request][rng.integers(2)]
        key = str(rng.choice([*target, "parameters"]))
        target[key] = weird[rng.integers(len(weird))]
    match rng.integers(8):
        case 0:
            head["shape"] = rng.integers(-3, 40, int(rng.integers(0, 6))).tolist()
        case 1:
            head["data"] = [float("inf"), float("nan"), 1e308][rng.integers(3)]
        case 2:
            depth = int(rng.integers(10, 100_000))
            nested = b'{"inputs":' + b"[" * depth + b"]" * int(rng.integers(depth)) + b"}"
            return Attack("deep JSON", path, nested)
        case 3:
            raw = json.dumps(request).encode()
            return Attack("cut JSON", path, raw[: int(rng.integers(len(raw)))])
    body = json.dumps(request).encode()
    if rng.random() < 0.4:
        head.pop("data", None)
        head["parameters"] = {"binary_data_size": int(rng.choice([12288, 0, -4, 2**63, 12287]))}
        body = json.dumps(request).encode()
        length = int(rng.choice([len(body), 0, len(body) + 5, 2**40, len(body) - 1]))
        values = rng.standard_normal(3072).astype("<f4")
        values[rng.integers(3072)] = rng.choice([0, np.nan, np.inf, 3e38])
        headers = {"Inference-Header-Content-Length": str(length)}
        return Attack("wrong binary tensor", path, body + values.tobytes(), headers)
    return Attack("wrong tensor", path, body)


def compressed(rng: Rng, attack: Attack) -> Attack:
    """``attack`` as a compressed body, mostly a proper one."""
    coding = str(rng.choice(["gzip", "deflate", "br"]))
    body = gzip.compress(attack.body, 1) if coding == "gzip" else zlib.compress(attack.body, 1)
    headers = attack.headers | {"Content-Encoding": coding}
    if rng.random() < 0.3:
        body = body[: int(rng.integers(len(body)))] + rng.bytes(int(rng.integers(1, 9)))
        return Attack("damaged and compressed", attack.path, body, headers)
    good = attack.good and coding != "br"
    return Attack(f"{attack.kind}, compressed", attack.path, body, headers, good)


def attack(rng: Rng, model: str) -> Attack:
    """Any of them."""
    kinds: list[Callable[[], Attack]] = [
        lambda: upload(rng, "valid", valid),
        lambda: upload(rng, "damaged", damaged),
        lambda: upload(rng, "damaged", damaged),
        lambda: upload(rng, "stranger", stranger),
        lambda: upload(rng, "bomb", bomb),
        lambda: tensor(rng, model),
        lambda: tensor(rng, model),
    ]
    drawn = kinds[rng.integers(len(kinds))]()
    if rng.random() < 0.15:
        drawn = compressed(rng, drawn)
    if rng.random() < 0.03 and drawn.body:
        cut = int(rng.integers(len(drawn.body)))
        return Attack("hung up", drawn.path, drawn.body, drawn.headers, cut=cut)
    return drawn
