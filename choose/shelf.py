"""The students that may be chosen: architectures by name, each with what it costs on paper.

Which are looked at, where no pattern is given, is the list below: small classifiers of the four
families in several sizes. Which of them are measured, `near_budget.py` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import nn

from ..errors import MldrError
from ..models.architecture import build
from ..models.architecture_config import ModelConfig
from ..models.catalogue import model_catalogue
from ..models.evaluation import MISFITS
from ..models.listing import Listing
from ..models.operations import operations
from ..models.size import takes_size
from ..models.stem import shrink_stem

_LISTED = """
lcnet_050 lcnet_075 lcnet_100 tinynet_e tinynet_d tinynet_c mobilenetv3_small_050
mobilenetv3_small_075 mobilenetv3_small_100 mobilenetv3_large_100 mobilenetv2_050 mobilenetv2_100
mnasnet_small tf_efficientnet_lite0 ghostnet_050 ghostnet_100 regnetx_002 regnetx_004 resnet10t
resnet18 convnext_atto convnext_femto
edgenext_xx_small edgenext_x_small edgenext_small mobilevit_xxs mobilevit_xs mobilevitv2_050
mobilevitv2_075 deit_tiny_patch16_224 efficientformerv2_s0 levit_128s xcit_nano_12_p16_224
efficientvit_m0 efficientvit_m1
mixer_s32_224 mixer_s16_224 resmlp_12_224 gmlp_ti16_224 gmlp_s16_224
vim_pico_patch4_32 vim_nano_patch4_32 vim_tiny_patch16_224 mambaout_femto mambaout_kobe
"""
_GRID = 8  # patches along a side, at least: with fewer there is little left to mix


@dataclass(frozen=True)
class Contender:
    """One architecture at one image size. Prints itself."""

    model: ModelConfig
    image_size: int  # side of the square input, pixels
    listing: Listing  # the published model: family, parameters, input
    operations: int  # multiply-accumulates of one image here, without a Mamba's scan

    @property
    def name(self) -> str:
        """The architecture's name, and the size where it is said."""
        return f"{self.model.name} {self.image_size} px"

    @property
    def folder(self) -> str:
        """A name for files."""
        return f"{self.model.name}-{self.image_size}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Misfit:
    """An architecture that cannot be a contender, and why."""

    name: str
    reason: str


def shelf(
    patterns: Iterable[str], base: ModelConfig, sizes: Iterable[int], classes: int
) -> Iterator[Contender | Misfit]:
    """Every architecture of ``patterns`` (none: the list above) at every one of ``sizes``.

    ``base`` is the recipe's student, whose keys but the name count for all. Raises MldrError for a
    pattern that matches nothing.
    """
    catalogue = model_catalogue()
    names = [name for pattern in patterns for name in catalogue.named(pattern)]
    names = list(dict.fromkeys(names)) or [n for n in _LISTED.split() if n in catalogue.names]
    sides = sorted(set(sizes))
    for name, listing in zip(names, catalogue.look_up(names), strict=True):
        if listing is None or not listing.stages:
            yield Misfit(name, "its stages cannot be tapped, so it can only teach")
        elif base.weights == "timm" and not listing.published_weights:
            yield Misfit(name, "timm has no published weights of it, and the recipe starts there")
        else:
            yield from (_contender(listing, base, side, classes) for side in sides)


def _contender(listing: Listing, base: ModelConfig, side: int, classes: int) -> Contender | Misfit:
    config = fitted(base.model_copy(update={"name": listing.name}), side, classes)
    try:
        cost = operations(_unrun(config, side, classes), side, side)
    except (*MISFITS, MldrError) as error:
        reason = " ".join(str(error).split())[:160]
        return Misfit(f"{listing.name} {side} px", f"it does not take {side} px images ({reason})")
    return Contender(config, side, listing, cost)


def fitted(config: ModelConfig, side: int, classes: int) -> ModelConfig:
    """``config`` for images of ``side`` pixels.

    Patches so small that eight lie along a side, where the architecture cuts patches and the recipe
    does not say how large; a small stem only where the architecture has one.
    """
    if config.stem == "small" and not takes_size(config, num_classes=classes, image_size=side):
        config = config.model_copy(update={"stem": "default"})
    patch = _patch(config, side, classes)
    if config.patch_size is not None or patch is None or _GRID * patch <= side:
        return config
    smaller = config.model_copy(update={"patch_size": max(1, side // _GRID)})
    return smaller if takes_size(smaller, num_classes=classes, image_size=side) else config


def _patch(config: ModelConfig, side: int, classes: int) -> int | None:
    """Side of the published patches; None where the model cuts none, or cannot be built so."""
    try:
        model = _unrun(config.model_copy(update={"stem": "default"}), side, classes)
    except (*MISFITS, MldrError):
        return None
    sides = [part.patch_size[0] for part in model.modules() if isinstance(part, PatchEmbed)]
    return max(sides, default=None)


def _unrun(config: ModelConfig, side: int, classes: int) -> nn.Module:
    """The model on the meta device, without weights."""
    with torch.device("meta"):
        bare = config.model_copy(update={"weights": None})
        model = build(bare, num_classes=classes, image_size=side)
        if config.stem == "small":
            shrink_stem(model, config.name, side)
    return model
