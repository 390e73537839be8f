"""Models by name: any timm classifier, fitted to the data set's classes and image size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
from torch import nn

from ..errors import MldrError
from . import vision_mamba as _vision_mamba  # noqa: F401  its models join timm's
from .architecture import build
from .architecture_config import ModelConfig
from .classifier import start_small
from .size import require_size
from .stem import shrink_stem
from .unknown_model import unknown_model
from .weights import load_weights

RGB = tuple[float, float, float]


def create_model(
    config: ModelConfig,
    *,
    num_classes: int,
    image_size: int,
    note: Callable[[str], None] = lambda _: None,
) -> nn.Module:
    """Make the model of `config` for `num_classes` and square images of `image_size` pixels.

    The model comes back in train mode, on the CPU, in float32, with its weights loaded; it has
    been run once at `image_size`. A classifier without weights starts small (`classifier.py`).
    `note` is told where a file held several sets of weights.

    Raises:
        MldrError: unknown name, an argument the architecture does not take, weights that do not
            fit, or an image size the model cannot take.
        Unavailable: timm's weights could not be fetched.
    """
    require_known(config.name)
    model = build(config, num_classes=num_classes, image_size=image_size)
    if config.stem == "small":
        shrink_stem(model, config.name, image_size)
    if config.weights != "timm" or published_classes(model) != num_classes:
        start_small(model, num_classes)
    if config.weights not in (None, "timm"):
        load_weights(model, str(config.weights), fresh_head=config.fresh_head, note=note)
    require_size(model, config, num_classes=num_classes, image_size=image_size)
    return model


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models, sorted, that match a shell pattern such as `resnet*`."""
    return list(timm.list_models(pattern))


def normalisation(model: nn.Module) -> tuple[RGB, RGB]:
    """Mean and standard deviation of pixels / 255 that the model's published weights expect."""
    published: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    mean = published.get("mean") or timm.data.IMAGENET_DEFAULT_MEAN
    std = published.get("std") or timm.data.IMAGENET_DEFAULT_STD
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def published_classes(model: nn.Module) -> int | None:
    """Number of classes that the model's published weights tell apart."""
    published: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    return published.get("num_classes")


def require_known(name: str) -> None:
    """Return if a model has this name.

    Raises:
        MldrError: with the nearest names, or the weights tags that the architecture has.
    """
    architecture, _, tag = name.partition(".")
    if timm.is_model(architecture):
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in tags:
            listed = ", ".join(tags) or "none"
            raise MldrError(f"{architecture} has no weights tag {tag!r}; it has: {listed}")
        return
    raise unknown_model(name, timm.list_models())
