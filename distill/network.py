"""A model to be trained, built for a phase; weights of other classes are refused."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..bundle.preprocess import Preprocessing
from ..bundle.trained import TrainedModel
from ..errors import MldrError
from ..models.architecture_config import ModelConfig
from ..models.model_registry import create_model, normalisation
from ..models.stages import StagePlan
from .phase import Phase, Training
from .trained_folder import trained_record


@dataclass(frozen=True)
class Network:
    """A model with its configuration, where its stages end, and how it takes images."""

    config: ModelConfig
    model: nn.Module
    plan: StagePlan
    preprocessing: Preprocessing


def fresh_model(phase: Phase, config: ModelConfig, training: Training) -> nn.Module:
    """The model for the phase's data, with initial weights drawn from the recipe's seed.

    Raises MldrError for a name, key or size that does not work, and for weights to start from
    that tell other classes apart.
    """
    record = None if config.fresh_head else trained_record(config)
    if record is not None:
        remedy = "set student.fresh_head=true to start from them all the same"
        check_classes(record, phase.dataset.classes, f"student {config.weights}", remedy)
    torch.manual_seed(training.train.seed)
    classes, side = len(phase.dataset.classes), phase.data.image_size
    return create_model(config, num_classes=classes, image_size=side, note=phase.progress.note)


def preprocessing_of(config: ModelConfig, model: nn.Module, phase: Phase) -> Preprocessing:
    """How the model takes its images: as its weights were trained, else the data's own numbers."""
    record = trained_record(config)
    side = phase.data.image_size
    if record is not None:
        return record.preprocessing.model_copy(update={"size": (side, side)})
    published = config.weights is not None
    mean, std = normalisation(model) if published else (phase.dataset.mean, phase.dataset.std)
    crop = phase.data.crop_fraction
    return Preprocessing(size=(side, side), crop_fraction=crop, mean=mean, std=std)


def check_classes(record: TrainedModel, classes: tuple[str, ...], owner: str, remedy: str) -> None:
    """Raises MldrError where the weights of ``record``, named ``owner``, are of other classes."""
    if tuple(record.classes) == classes:
        return
    if len(record.classes) != len(classes):
        difference = f"{len(record.classes)} classes, the data {len(classes)}"
    else:
        index = next(i for i, name in enumerate(classes) if record.classes[i] != name)
        difference = f"class {index} is {record.classes[index]!r}, in the data {classes[index]!r}"
    raise MldrError(f"{owner} tells other classes apart ({difference}): {remedy}")
