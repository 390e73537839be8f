"""Small real students, trained for seconds on real images, exported once and then broken."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from mldr_deploy.bundle.evidence import Evidence
from mldr_deploy.bundle.preprocess import Preprocessing, normalise, preprocess
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.trained import TrainedModel, load_trained, save_trained
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.data.split import Split
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.family import family
from mldr_deploy.models.model_registry import create_model

Tensors = dict[str, NDArray[Any]]
BATCH, AVERAGED = 64, 0.9


@dataclass(frozen=True)
class Recipe:
    """One student: what it is, what it is shown, how it is exported."""

    name: str
    model: ModelConfig
    data: DataConfig = field(default_factory=DataConfig)
    seed: int = 0
    steps: int = 40
    precisions: tuple[str, ...] = ("fp32",)
    opset: int = 20
    methods: tuple[str, ...] = ("minmax",)  # of calibration

    @property
    def export(self) -> ExportConfig:
        return ExportConfig(
            max_batch=16,
            opset=self.opset,
            precisions=self.precisions,
            latency_seconds=0,
            calibration={"images": 64},
            quantize={"methods": self.methods},
        )


@dataclass(frozen=True)
class Subject:
    """A finished training run, and what else the run could have kept by mistake.

    The kept weights are a moving average, as with ``train.ema``.
    """

    recipe: Recipe
    folder: Path  # as training leaves it
    record: TrainedModel
    tensors: Tensors
    unaveraged: Tensors  # the same step without the average
    earlier: Tensors  # the average of an earlier epoch
    dataset: Dataset

    def exported(self, out: Path) -> Bundle:
        """The bundle at ``out``, written if it is not there."""
        if out.exists():
            return open_bundle(out, allow_failed=True)
        return build_bundle(self.folder, out, self.recipe.export, dataset=self.dataset)


CNN = Recipe("cnn", ModelConfig(name="test_resnet"))
VIT = Recipe("vit", ModelConfig(name="test_vit"), seed=1, steps=80)
HALF = Recipe("half", ModelConfig(name="test_resnet"), seed=3, precisions=("fp32", "fp16"))
INT8 = Recipe(
    "int8", ModelConfig(name="test_resnet"), seed=4, steps=80, precisions=("fp32", "int8")
)
VIM = Recipe(
    "vim",
    ModelConfig(name="vim_pico_patch8_64", options={"depth": 2, "embed_dim": 32}),
    DataConfig(image_size=64),
    seed=2,
)


def train(recipe: Recipe, folder: Path) -> Subject:
    """A few quick steps of AdamW, and the record that ``distill`` would leave."""
    dataset = load_dataset(recipe.data)
    side = recipe.data.image_size
    torch.manual_seed(recipe.seed)
    model = create_model(recipe.model, num_classes=len(dataset.classes), image_size=side)
    spec = Preprocessing(size=(side, side), mean=dataset.mean, std=dataset.std)
    average, earlier = _fit(model, dataset.train, spec, recipe)
    kept = _arrays(average)
    record = TrainedModel(
        model=recipe.model.model_dump(mode="json"),
        num_classes=len(dataset.classes),
        image_size=side,
        classes=[*dataset.classes],
        preprocessing=spec,
        family=family(model),
        parameters=sum(p.numel() for p in model.parameters()),
        data=recipe.data.model_dump(mode="json"),
        data_fingerprint=dataset.fingerprint,
        evidence=evidence(average, dataset.val, spec),
        provenance={"recipe": {"train": {"seed": recipe.seed}}},
    )
    save_trained(folder, record, kept)
    record, _ = load_trained(folder)
    return Subject(recipe, folder, record, kept, _arrays(model), earlier, dataset)


def evidence(model: nn.Module, split: Split, spec: Preprocessing) -> Evidence:
    """What training records, by PyTorch's own arithmetic."""
    labels = torch.from_numpy(split.labels)
    inputs = torch.from_numpy(_inputs(split, spec))
    with torch.inference_mode():
        logits = torch.cat([model.eval()(part) for part in inputs.split(250)])
        loss = nn.functional.cross_entropy(logits, labels)
    top1 = 100 * (logits.argmax(1) == labels).double().mean()
    return Evidence(images=len(split), top1=float(top1), loss=float(loss), preprocessing=spec)


def _fit(
    model: nn.Module, split: Split, spec: Preprocessing, recipe: Recipe
) -> tuple[nn.Module, Tensors]:
    """Trains ``model`` in place; its moving average, and what that was two thirds of the way."""
    generator = torch.Generator().manual_seed(recipe.seed)
    rows = torch.randint(len(split), (recipe.steps, BATCH), generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    average, earlier = copy.deepcopy(model).eval(), {}
    for step, chosen in enumerate(rows):
        part = split.subset(chosen.numpy())
        logits = model.train()(torch.from_numpy(_inputs(part, spec)))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(part.labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mean, now in zip(
                average.state_dict().values(), model.state_dict().values(), strict=True
            ):
                mean.lerp_(now, 1 - AVERAGED) if mean.is_floating_point() else mean.copy_(now)
        if step == 2 * recipe.steps // 3:
            earlier = _arrays(average)
    model.eval()
    return average, earlier


def _inputs(split: Split, spec: Preprocessing) -> Any:
    if split.pixels is not None and split.pixels.shape[1:3] == spec.size:
        return normalise(split.pixels, spec)
    return preprocess([split.image(row) for row in range(len(split))], spec)


def _arrays(model: nn.Module) -> Tensors:
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


SUBJECTS = {recipe.name: recipe for recipe in (CNN, VIT, HALF, INT8, VIM)}
