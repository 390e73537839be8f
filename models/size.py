"""Whether a model takes the images' size, and what to change when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MldrError
from .architecture import build
from .architecture_config import ModelConfig
from .evaluation import MISFITS, evaluating, one_line
from .stem import shrink_stem

_SIZES = (32, 48, 64, 96, 112, 128, 160, 192, 224, 240, 256, 288, 320, 384, 448, 512)
_PATCHES = (16, 8, 4, 2)


def require_size(
    model: nn.Module, config: ModelConfig, *, num_classes: int, image_size: int
) -> None:
    """Run `model` once on two black images of `image_size` pixels.

    Raises:
        MldrError: it does not take them, and the message names keys that were tried and help;
            or it gives no logits.
    """
    try:
        logits = _run(model, image_size)
    except MISFITS as error:
        remedies = list(_remedies(config, num_classes, image_size))
        advice = "it works with " + " or ".join(remedies) if remedies else "no remedy was found"
        raise MldrError(
            f"{config.name} cannot take {image_size} px images ({one_line(error)}); {advice}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        raise MldrError(
            f"{config.name} is not a classifier: it gives no logits of {num_classes} classes; "
            "choose another architecture"
        )


def _run(model: nn.Module, image_size: int) -> Any:
    like = next(model.parameters())
    with evaluating(model):
        return model(torch.zeros(2, 3, image_size, image_size, device=like.device))


def _remedies(config: ModelConfig, num_classes: int, image_size: int) -> Iterator[str]:
    """Keys and values that make the model run, each of them tried."""

    def works(size: int = image_size, **changes: Any) -> bool:
        return takes_size(
            config.model_copy(update=changes), num_classes=num_classes, image_size=size
        )

    if config.img_size != "auto" and works(img_size="auto"):
        yield 'img_size = "auto"'
        return
    if config.stem == "default" and works(stem="small"):
        yield 'stem = "small"'
    patches = (p for p in _PATCHES if p != config.patch_size)
    patch = next((p for p in patches if works(patch_size=p)), None)
    if patch is not None:
        yield f"patch_size = {patch}"
    larger = (s for s in _SIZES if s > image_size)
    size = next((s for s in larger if works(s)), None)
    if size is not None:
        yield f"data.image_size = {size}"


def takes_size(config: ModelConfig, *, num_classes: int, image_size: int) -> bool:
    """Whether this model takes images of this size; nothing is allocated or computed."""
    bare = config.model_copy(update={"weights": None})
    try:
        with torch.device("meta"):
            model = build(bare, num_classes=num_classes, image_size=image_size)
            if config.stem == "small":
                shrink_stem(model, config.name, image_size)
            _run(model, image_size)
    except (*MISFITS, MldrError):
        return False
    return True
