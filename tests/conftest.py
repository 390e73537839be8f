"""Fixtures that the tests of several folders share."""

from __future__ import annotations

import json
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.atomic import write_text
from mldr_deploy.bundle.golden import make_golden, save_golden
from mldr_deploy.bundle.infer_script import FILE as SCRIPT
from mldr_deploy.bundle.infer_script import infer_script
from mldr_deploy.bundle.manifest import (
    FILE,
    Artifact,
    Manifest,
    TensorSpec,
    describe,
    write_manifest,
)
from mldr_deploy.bundle.parity import Accuracy, Gate, ParityResult
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.tensors import write_tensors
from mldr_deploy.data.root import data_root as find_data_root

SPEC = Preprocessing(
    size=(32, 32), crop_fraction=0.875, mean=(0.5, 0.45, 0.4), std=(0.25, 0.25, 0.3)
)
LABELS = [f"class {k}" for k in range(10)]
MAX_BATCH = 16


def parity(failures: list[str]) -> ParityResult:
    return ParityResult(
        precision="fp32",
        samples=100,
        reference=Accuracy(top1=90, top5=99),
        artifact=Accuracy(top1=90, top5=99),
        lost=0,
        gained=0,
        mcnemar_p=1,
        disagreements=0,
        ties=0,
        max_dlogit=1e-5,
        p99_dlogit=1e-6,
        mean_kl=0,
        nonfinite=0,
        reference_nonfinite=0,
        worst_index=0,
        batches=[],
        gate=Gate(min_agreement=100, max_dlogit=1e-3),
        failures=failures,
    )


def write_bundle(folder: Path) -> None:
    """A bundle of a tiny untrained student: real ONNX, real weights, drawn images."""
    import torch

    from mldr_deploy.export.export_config import ExportConfig
    from mldr_deploy.export.onnx_export import export_onnx
    from mldr_deploy.models.architecture_config import ModelConfig
    from mldr_deploy.models.model_registry import create_model

    torch.manual_seed(0)
    config = ModelConfig(name="test_resnet")
    model = create_model(config, num_classes=len(LABELS), image_size=32).eval()
    with torch.no_grad():
        # A new classifier starts small: an untrained model would give one answer for all.
        torch.nn.init.normal_(model.get_classifier().weight, std=0.5)
    export_onnx(model, 32, folder / "student.onnx", ExportConfig(max_batch=MAX_BATCH))
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    write_tensors(folder / "weights.safetensors", tensors)
    rng = np.random.default_rng(0)
    sources = []
    for k in range(8):
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        sources.append(coarse.repeat(10 + k, 0).repeat(10, 1))
    index = np.arange(len(sources))
    with torch.inference_mode():
        golden = make_golden(
            sources,
            SPEC,
            lambda inputs: model(torch.from_numpy(inputs)).numpy(),
            index=index,
            label=index % len(LABELS),
            classes=LABELS,
        )
    save_golden(folder / "golden.npz", golden)
    manifest = Manifest(
        labels=LABELS,
        input=TensorSpec(name="input", dtype="float32", shape=["batch", 3, 32, 32]),
        output=TensorSpec(name="logits", dtype="float32", shape=["batch", len(LABELS)]),
        max_batch=MAX_BATCH,
        preprocessing=SPEC,
        artifacts=[
            Artifact(
                **describe(folder, "student.onnx").model_dump(),
                format="onnx",
                precision="fp32",
                opset=20,
                status="passed",
                parity=parity([]),
            )
        ],
        temperature=1.5,
        weights=describe(folder, "weights.safetensors"),
        golden=describe(folder, "golden.npz"),
        model=config.model_dump(mode="json"),
        image_size=32,
        family="cnn",
        parameters=sum(p.numel() for p in model.parameters()),
        data={"source": "digits"},
        data_fingerprint="f" * 64,
    )
    write_text(folder / SCRIPT, infer_script(manifest))
    manifest = manifest.model_copy(update={"script": describe(folder, SCRIPT)})
    write_manifest(folder, manifest)


Edit = Callable[[Path, Callable[[dict[str, Any]], None]], Path]


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = json.loads((folder / FILE).read_text())
    change(content)
    write_sealed(folder / FILE, content)
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The healthy bundle's folder; not to be written to."""
    folder = tmp_path_factory.mktemp("served")
    write_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(served: Path) -> Bundle:
    return open_bundle(served)


@pytest.fixture
def copied(served: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be broken."""
    return Path(shutil.copytree(served, tmp_path / "copied"))


@pytest.fixture
def edit() -> Edit:
    """``edit(folder, change)``: the folder with its manifest as another export would write it."""
    return edited


@pytest.fixture
def failed(copied: Path) -> Path:
    """A bundle whose only artifact failed its gate."""

    def fail(content: dict[str, Any]) -> None:
        content["artifacts"][0]["status"] = "failed"
        content["artifacts"][0]["parity"]["failures"] = ["|dlogit| 0.25 is above 0.001"]

    return edited(copied, fail)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real data sets: $MLDR_DATA or ../shared/data beside the checkout."""
    return find_data_root(None)


@pytest.fixture(scope="session")
def cifar100_root(data_root: Path) -> Path:
    """The same, known to hold CIFAR-100."""
    return _holding(data_root, "cifar100-test.parquet")


@pytest.fixture(scope="session")
def tiny_imagenet_root(data_root: Path) -> Path:
    """The same, known to hold Tiny-ImageNet."""
    return _holding(data_root, "tiny-imagenet-val.parquet")


@pytest.fixture(scope="session")
def free_port() -> int:
    """A port that nothing listens on, out of the range from which systems lend ports of their own.

    A lent port (bound at 0, read, closed) may be lent to another process before it is used.
    """
    for port in random.SystemRandom().sample(range(20000, 32000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port between 20000 and 32000")


def _holding(root: Path, file: str) -> Path:
    if not (root / file).is_file():
        pytest.skip(f"{file} is not in {root}; set MLDR_DATA to the folder that holds it")
    return root
