"""Models by name: any timm classifier, fitted to the data set's classes and image size."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from torch import nn

from ..errors import MldrError
from .config import ModelConfig
from .stages import evaluating
from .stem import shrink_stem
from .weights import load_weights

RGB = tuple[float, float, float]


def create_model(config: ModelConfig, *, num_classes: int, image_size: int) -> nn.Module:
    """Make the model of `config` for `num_classes` and square images of `image_size` pixels.

    The model comes back in train mode on the CPU, in float32, with its weights loaded, and has
    been run once at `image_size`.

    Raises:
        MldrError: unknown name, an argument the architecture does not take, weights that do not
            fit, or an image size the model cannot take.
    """
    require_known(config.name)
    model = _build(config, num_classes, image_size)
    if config.stem == "small":
        shrink_stem(model, config.name)
    if config.weights not in (None, "timm"):
        load_weights(model, str(config.weights), fresh_head=config.fresh_head)
    _require_size(model, config, image_size)
    return model


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models, sorted, that match a shell pattern such as `resnet*`."""
    return list(timm.list_models(pattern))


def normalisation(model: nn.Module) -> tuple[RGB, RGB]:
    """Mean and standard deviation of pixels / 255 that the model's published weights expect."""
    published: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    mean = published.get("mean") or (0.485, 0.456, 0.406)
    std = published.get("std") or (0.229, 0.224, 0.225)
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def require_known(name: str) -> None:
    """Raise MldrError with the nearest names when no model has this name."""
    architecture, _, tag = name.partition(".")
    if timm.is_model(architecture):
        tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in tags:
            raise MldrError(
                f"unknown weights tag {tag!r} of {architecture}; known: {', '.join(tags) or 'none'}"
            )
        return
    near = difflib.get_close_matches(architecture.lower(), timm.list_models(), n=5, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}" if near else "`mldr-deploy models` lists them"
    raise MldrError(f"unknown model {name!r}; {hint}")


def _build(config: ModelConfig, num_classes: int, image_size: int) -> nn.Module:
    arguments: dict[str, Any] = {"num_classes": num_classes, **config.options}
    if config.drop_path:
        arguments["drop_path_rate"] = config.drop_path
    if config.patch_size is not None:
        arguments["patch_size"] = config.patch_size
    arguments["img_size"] = image_size if config.img_size == "auto" else config.img_size
    try:
        return _timm_model(config, arguments)
    except TypeError as error:
        if "img_size" not in str(error) or config.img_size != "auto":
            raise _refused_argument(config, error) from error
    del arguments["img_size"]
    try:
        return _timm_model(config, arguments)
    except TypeError as error:
        raise _refused_argument(config, error) from error


def _timm_model(config: ModelConfig, arguments: dict[str, Any]) -> nn.Module:
    model: nn.Module = timm.create_model(
        config.name, pretrained=config.weights == "timm", **arguments
    )
    return model


def _refused_argument(config: ModelConfig, error: TypeError) -> MldrError:
    return MldrError(f"{config.name} does not take an option of the recipe: {error}")


def _require_size(model: nn.Module, config: ModelConfig, image_size: int) -> None:
    try:
        with evaluating(model):
            model(torch.zeros(2, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MldrError(
            f"{config.name} cannot take {image_size} px images ({reason})"
        ) from error
