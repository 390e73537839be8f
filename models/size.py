"""Whether a model takes the images' size, and what to change when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..errors import MldrError
from .build import build, first_line
from .config import ModelConfig
from .evaluation import evaluating
from .stem import shrink_stem

# What PyTorch and timm raise when a grid does not fit.
_MISFITS = (RuntimeError, ValueError, AssertionError, LookupError, TypeError, ArithmeticError)

_SIZES = (32, 48, 64, 96, 112, 128, 160, 192, 224, 240, 256, 288, 320, 384, 448, 512)
_PATCHES = (16, 8, 4, 2)


def require_size(
    model: nn.Module, config: ModelConfig, *, num_classes: int, image_size: int
) -> None:
    """Run `model` once on two black images of `image_size` pixels.

    Raises:
        MldrError: it does not take them; the message names a key that was tried and helps.
    """
    try:
        logits = _run(model, image_size)
    except _MISFITS as error:
        reason = first_line(error)
    else:
        if isinstance(logits, torch.Tensor) and logits.shape == (2, num_classes):
            return
        reason = "it gives no logits: it is not a classifier"
        raise MldrError(f"{config.name} cannot be used, {reason}; choose another architecture")
    remedies = list(_remedies(config, num_classes, image_size))
    advice = "; works with " + " or ".join(remedies) if remedies else ""
    raise MldrError(f"{config.name} cannot take {image_size} px images ({reason}){advice}")


def _run(model: nn.Module, image_size: int) -> Any:
    like = next(model.parameters())
    with evaluating(model):
        return model(torch.zeros(2, 3, image_size, image_size, device=like.device))


def _remedies(config: ModelConfig, num_classes: int, image_size: int) -> Iterator[str]:
    """Keys and values that make the model run, each tried without memory or arithmetic."""
    for patch in _PATCHES:
        changed = config.model_copy(update={"patch_size": patch})
        if patch != config.patch_size and _works(changed, num_classes, image_size):
            yield f"patch_size = {patch}"
            break
    for size in _SIZES:
        if size > image_size and _works(config, num_classes, size):
            yield f"data.image_size = {size}"
            break


def _works(config: ModelConfig, num_classes: int, image_size: int) -> bool:
    """Whether the changed model would take images of this size, told on the meta device."""
    try:
        with torch.device("meta"):
            model = build(
                config.model_copy(update={"weights": None}),
                num_classes=num_classes,
                image_size=image_size,
            )
            if config.stem == "small":
                shrink_stem(model, config.name)
            _run(model, image_size)
    except (*_MISFITS, MldrError):
        return False
    return True
