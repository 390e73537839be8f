"""A hand-made bundle: every rule of the reader can be broken in it without exporting a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mldr_deploy.bundle.atomic import write_bytes, write_json
from mldr_deploy.bundle.golden import make_golden, save_golden
from mldr_deploy.bundle.manifest import Artifact, Manifest, TensorSpec, describe
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
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
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
