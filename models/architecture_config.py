"""What a recipe says about one model: its name, its weights, and how it meets small images."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Stem = Literal["default", "small"]

# These arguments of `timm.create_model` have a field or an owner of their own.
_OWNED = {
    "num_classes": "the data set decides it",
    "pretrained": "use weights",
    "checkpoint_path": "use weights",
    "img_size": "use img_size",
    "patch_size": "use patch_size",
    "drop_path_rate": "use drop_path",
    "in_chans": "images are always RGB",
    "features_only": "stages are tapped from the whole classifier",
    "global_pool": "the pooling belongs to the architecture",
}


class ModelConfig(BaseModel):
    """One model, as the recipe's `[teacher]` or `[student]` table describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        min_length=1,
        description="timm model name, with or without a weights tag (`resnet18`, "
        "`vit_tiny_patch16_224.augreg_in21k`); `mldr-deploy models` lists them.",
    )
    weights: str | None = Field(
        default=None,
        description="Where the weights come from: nothing = random initialisation; `timm` = "
        "timm's pretrained weights of that name (needs the network once); a file, .safetensors or "
        "what torch.save wrote, in whatever entries and prefixes (of several complete sets the "
        "averaged one is taken, then the best); or the folder that train-teacher or distill left.",
    )
    fresh_head: bool = Field(
        default=False,
        description="Start with a new, random classifier where the one in the weights file has "
        "another number of classes (fine-tuning). Off: such a file is refused.",
    )
    img_size: Literal["auto"] | int = Field(
        default="auto",
        description="Image side in pixels that the model is built for; `auto` = data.image_size "
        "for architectures that are built for one size (ViT, Swin, Mixer, ...). Architectures "
        "that take any size (ResNet, ...) ignore `auto` and refuse a number.",
    )
    patch_size: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Side in pixels of a patch, for architectures that cut the image into "
        "patches; smaller images want smaller patches (4 at 32 px, 8 at 64 px).",
    )
    stem: Stem = Field(
        default="default",
        description="`small`, for 32 and 64 px images: the first strided convolution keeps the "
        "full resolution (stride 2 becomes 1, an overlapping stride 4 becomes 2) and the stem's "
        "max-pooling is left out.",
    )
    drop_path: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Stochastic depth: the rate at which the last residual branch is dropped in "
        "training; earlier branches are dropped less, in proportion to depth.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Other keyword arguments of the architecture, handed to `timm.create_model` "
        "as they are (`window_size`, `depths`, `drop_rate`, ...).",
    )

    @field_validator("img_size")
    @classmethod
    def _positive_size(cls, value: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(value, int) and not 8 <= value <= 2048:
            raise ValueError(f'{value} is out of range; allowed: "auto" or 8 to 2048 pixels')
        return value

    @field_validator("options")
    @classmethod
    def _unowned_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if key in _OWNED:
                raise ValueError(f"{key} is not allowed here: {_OWNED[key]}")
            if isinstance(value[key], float) and not math.isfinite(value[key]):
                raise ValueError(f"{key} must be a finite number")
        return value
