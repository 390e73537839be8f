"""A hand-made bundle: every rule of the reader can be broken in it without exporting a model."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mldr_deploy.bundle.atomic import write_bytes
from mldr_deploy.bundle.golden import make_golden, save_golden
from mldr_deploy.bundle.manifest import Artifact, Manifest, TensorSpec, describe, write_manifest
from mldr_deploy.bundle.parity import Accuracy, BatchCheck, Gate, ParityResult
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.tensors import write_tensors

SPEC = Preprocessing(size=(8, 8), crop_fraction=0.8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def parity(failures: list[str]) -> ParityResult:
    return ParityResult(
        precision="fp32",
        samples=200,
        reference=Accuracy(top1=90, top5=99),
        artifact=Accuracy(top1=89, top5=98),
        lost=3,
        gained=1,
        mcnemar_p=0.625,
        disagreements=5,
        ties=1,
        max_dlogit=0.25,
        p99_dlogit=0.1,
        mean_kl=0.001,
        nonfinite=0,
        reference_nonfinite=0,
        worst_index=7,
        batches=[BatchCheck(batch=1, max_dlogit=0.5)],
        gate=Gate(min_agreement=100, max_dlogit=1e-3),
        failures=failures,
    )


def write_bundle(folder: Path, failures: list[str]) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 256, (12, 17, 3), np.uint8) for _ in range(8)]
    logits = rng.standard_normal((8, 2), np.float32)
    index = np.arange(8)
    golden = make_golden(
        sources, SPEC, lambda _: logits, index=index, label=index % 2, classes=["cat", "dog"]
    )
    save_golden(folder / "golden.npz", golden)
    write_tensors(folder / "weights.safetensors", {"w": np.ones((2, 3), np.float32)})
    write_bytes(folder / "student.onnx", b"not looked into by the reader")
    artifact = Artifact(
        **describe(folder, "student.onnx").model_dump(),
        format="onnx",
        precision="fp32",
        opset=20,
        status="failed" if failures else "passed",
        parity=parity(failures),
    )
    manifest = Manifest(
        labels=["cat", "dog"],
        input=TensorSpec(name="input", dtype="float32", shape=["batch", 3, 8, 8]),
        output=TensorSpec(name="logits", dtype="float32", shape=["batch", 2]),
        max_batch=64,
        preprocessing=SPEC,
        artifacts=[artifact],
        weights=describe(folder, "weights.safetensors"),
        golden=describe(folder, "golden.npz"),
        model={"name": "resnet10t"},
        image_size=8,
        family="cnn",
        parameters=6,
        data={"source": "digits"},
        data_fingerprint="f" * 64,
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def measured() -> Callable[[list[str]], ParityResult]:
    """A parity result with the given failures."""
    return parity


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", [])


@pytest.fixture
def failed_folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "failed", ["|dlogit| 0.25 is above 0.001"])


Tags = Sequence[tuple[int, int, bytes]]  # tag, type, value


def tiff_file(
    samples: bytes,
    size: tuple[int, int],
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    each: int = 1,
    deflate: bool = False,
    tags: Tags = (),
) -> bytes:
    """A TIFF of one strip, written by its specification; ``size`` is width, height."""
    pixels = zlib.compress(samples) if deflate else samples

    def short(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}H", *values)

    def long(value: int) -> bytes:
        return struct.pack(f"{order}I", value)

    entries = [
        (256, 3, short(size[0])),
        (257, 3, short(size[1])),
        (258, 3, short(*[bits] * each)),
        (259, 3, short(8 if deflate else 1)),
        (262, 3, short(photometric)),
        (273, 4, long(0)),
        (277, 3, short(each)),
        (278, 3, short(size[1])),
        (279, 4, long(len(pixels))),
        *tags,
    ]
    bytes_of = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
    after = 8 + 2 + 12 * len(entries) + 4
    table, values = b"", b""
    for tag, kind, value in sorted(entries):
        head = struct.pack(f"{order}HHI", tag, kind, len(value) // bytes_of[kind])
        if tag == 273:
            table += head + b"STRP"
        elif len(value) <= 4:
            table += head + value.ljust(4, b"\0")
        else:
            table += head + long(after + len(values))
            values += value + b"\0" * (len(value) % 2)
    table = table.replace(b"STRP", long(after + len(values)))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + long(8) + short(len(entries)) + table + long(0) + values + pixels


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_file(
    row: bytes, width: int, bits: int, colour: int, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG of one row, written by its specification; chunks ``before`` and ``after`` the data."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + head + before + data + after + png_chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def tiff() -> Callable[..., bytes]:
    return tiff_file


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    return png_file


@pytest.fixture(scope="session")
def chunk() -> Callable[[bytes, bytes], bytes]:
    return png_chunk
