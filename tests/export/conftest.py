"""One trained student, exported once a session; the tests break copies of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from mldr_deploy.bundle.evidence import Evidence
from mldr_deploy.bundle.preprocess import Preprocessing, normalise
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.bundle.trained import TrainedModel, save_trained
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.data.split import Split
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.calibration import CalibrationConfig
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.precision.precision_config import QuantizeConfig
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model

CONFIG = ExportConfig(max_batch=32)


@dataclass(frozen=True)
class Run:
    """What training left, and what it was trained on."""

    folder: Path
    record: TrainedModel
    model: nn.Module
    dataset: Dataset


def train(model: nn.Module, dataset: Dataset, spec: Preprocessing) -> None:
    """A few quick steps, so that statistics and accuracies are not those of noise."""
    assert dataset.train.pixels is not None
    inputs = torch.from_numpy(normalise(dataset.train.pixels, spec))
    labels = torch.from_numpy(dataset.train.labels)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(30):
        rows = torch.randint(len(labels), (64,), generator=generator)
        loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def measured(model: nn.Module, split: Split, spec: Preprocessing) -> Evidence:
    """What training records, by PyTorch's own arithmetic."""
    assert split.pixels is not None
    labels = torch.from_numpy(split.labels)
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(normalise(split.pixels, spec)))
        loss = nn.functional.cross_entropy(logits, labels)
    top1 = 100 * (logits.argmax(1) == labels).double().mean()
    return Evidence(images=len(split), top1=float(top1), loss=float(loss), preprocessing=spec)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return load_dataset(DataConfig())


@pytest.fixture(scope="session")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.manual_seed(0)
    config = ModelConfig(name="test_resnet")
    model = create_model(config, num_classes=10, image_size=32)
    spec = Preprocessing(size=(32, 32), mean=dataset.mean, std=dataset.std)
    train(model, dataset, spec)
    record = TrainedModel(
        model=config.model_dump(mode="json"),
        num_classes=10,
        image_size=32,
        classes=[*dataset.classes],
        preprocessing=spec,
        family="cnn",
        parameters=sum(p.numel() for p in model.parameters()),
        data=DataConfig().model_dump(mode="json"),
        data_fingerprint=dataset.fingerprint,
        evidence=measured(model, dataset.val, spec),
        provenance={"recipe": {"train": {"seed": 0}}},
    )
    folder = tmp_path_factory.mktemp("run") / "student"
    save_trained(folder, record, {name: t.numpy() for name, t in model.state_dict().items()})
    return Run(folder, record, model, dataset)


@pytest.fixture(scope="session")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A healthy bundle; not to be written to."""
    out = tmp_path_factory.mktemp("exported") / "bundle"
    return build_bundle(run.folder, out, CONFIG, dataset=run.dataset, provenance={"teacher": "t"})


@pytest.fixture(scope="session")
def every_precision(run: Run, exported: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The healthy bundle with all precisions added; not to be written to."""
    out = Path(shutil.copytree(exported.path, tmp_path_factory.mktemp("every") / "bundle"))
    config = ExportConfig(
        max_batch=32,
        precisions=("fp16", "bf16", "int8", "int8-symmetric", "fp8"),
        calibration=CalibrationConfig(images=64),
        quantize=QuantizeConfig(methods=("minmax",), effect_images=16),
        latency_seconds=0.05,
    )
    return build_bundle(run.folder, out, config, dataset=run.dataset)


@pytest.fixture
def copied(exported: Bundle, tmp_path: Path) -> Path:
    """A copy of the healthy bundle, to be broken."""
    return Path(shutil.copytree(exported.path, tmp_path / "copied"))
