"""Four stages of any classifier, tapped in the one pass that also gives its logits.

B batch, C channels, H and W the stage's grid, K classes. timm's `forward_intermediates` gives
NCHW maps and `forward_head` the logits, for CNNs, transformers, MLPs and Mambas alike: no hooks and
no table of model names (docs/design.md, section Method).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import MldrError
from .evaluation import MISFITS, evaluating, one_line
from .family import family

STAGES = 4

Layout = Literal["map", "token"]

_TOLERANCE = 1e-3  # difference of two ways to the same logits, as a part of the largest


@dataclass(frozen=True)
class StageShape:
    """What one stage gives for one image: a [C, H, W] map, or tokens laid out as one."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class StagePlan:
    """Which intermediates of a model are its four stages, and what they look like.

    `indices` go to `forward_intermediates`, in order; a model that offers fewer than four
    repeats its last one. `layout` chooses the stage projector: "map" for CNNs and pyramids,
    "token" for isotropic transformers, MLPs and Mambas, whose H x W tokens arrive as a map
    without the `prefix_tokens` (class and register tokens). `feature_width` is the width of the
    last features, `pooled_width` that of what the classifier sees: they differ where a head has a
    hidden layer (MobileNetV3, VGG), and it is 0 where the head does not tell.

    A teacher without stages (`plan_teacher`) has no indices and no shapes.
    """

    indices: tuple[int, ...]
    shapes: tuple[StageShape, ...]
    layout: Layout
    prefix_tokens: int
    feature_width: int
    pooled_width: int


@dataclass(frozen=True)
class StageOutput:
    """One forward pass: the classifier's logits [B, K] and its stages [B, C, H, W].

    `features` [B, pooled_width] is what the classifier sees; None unless it was asked for.
    """

    logits: Tensor
    stages: tuple[Tensor, ...]
    features: Tensor | None = None


def plan_stages(model: nn.Module, image_size: int) -> StagePlan:
    """Choose the four stages of `model` for square images of `image_size` pixels.

    Pyramids give the end of each of their last four resolutions; isotropic models of depth 12
    give blocks 1, 3, 9 and 11 (OFA-KD's choice), other depths the same in proportion.

    Raises:
        MldrError: the model offers no intermediate features, not at this size, or with them
            other logits than without, so that what is trained were not what is exported.
    """
    name = type(model).__name__
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "forward_head"):
        raise MldrError(
            f"stages: {name} offers no intermediate features, so its stages cannot be tapped and "
            "it cannot be distilled; choose another model (`mldr-deploy models` lists those that "
            "work)"
        )
    tapped: Any = model
    try:
        maps, difference = _probe(tapped, image_size)
    except MISFITS as error:
        raise MldrError(
            f"stages: those of {name} cannot be tapped at {image_size} px ({one_line(error)}); "
            "choose another data.image_size or another model"
        ) from error
    if difference > _TOLERANCE:
        raise MldrError(
            f"stages: {name} gives other logits with its stages than without (off by "
            f"{difference:.1g} of the largest), so what is distilled would not be what is "
            "exported; choose another model"
        )
    shapes = [StageShape(*m.shape[1:]) for m in maps]
    indices = choose_stages(shapes)
    isotropic = len(set(shapes)) == 1 and len(shapes) > 1
    return StagePlan(
        indices=indices,
        shapes=tuple(shapes[i] for i in indices),
        layout="token" if isotropic and family(model) != "cnn" else "map",
        prefix_tokens=int(getattr(model, "num_prefix_tokens", 0)),
        feature_width=int(tapped.num_features),
        pooled_width=_pooled_width(tapped),
    )


def plan_teacher(model: nn.Module, image_size: int) -> StagePlan:
    """The plan of a model that need not have stages: without any, it gives its logits alone."""
    try:
        return plan_stages(model, image_size)
    except MldrError:
        width = getattr(model, "num_features", 0)
        return StagePlan((), (), "map", 0, feature_width=int(width), pooled_width=0)


def forward_stages(
    model: nn.Module, x: Tensor, plan: StagePlan, *, features: bool = False
) -> StageOutput:
    """Run `model` once on images [B, 3, S, S]; the logits equal `model(x)`.

    With `features` the pooled features too, for one more pooling: timm's heads give either them
    or the logits, so a head's own dropout or batch norm, where a model has one, runs for each.
    """
    if not plan.indices:
        return StageOutput(model(x), ())
    tapped: Any = model
    indices = sorted(set(plan.indices))
    last, maps = tapped.forward_intermediates(x, indices=indices, output_fmt="NCHW")
    by_index = dict(zip(indices, maps, strict=True))
    pooled = tapped.forward_head(last, pre_logits=True).flatten(1) if features else None
    stages = tuple(by_index[i] for i in plan.indices)
    return StageOutput(tapped.forward_head(last), stages, pooled)


def _probe(model: Any, image_size: int) -> tuple[list[Tensor], float]:
    """Every intermediate map of two images, and how far the logits of both ways are apart."""
    like = next(model.parameters())
    noise = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    images = noise.to(like)
    with evaluating(model):
        last, maps = model.forward_intermediates(images, output_fmt="NCHW")
        head_logits, logits = model.forward_head(last), model(images)
    if any(m.ndim != 4 for m in maps):
        raise ValueError(f"a stage of shape {tuple(next(m.shape for m in maps if m.ndim != 4))}")
    return maps, float((head_logits - logits).abs().max() / logits.abs().max().clamp(min=1e-12))


def choose_stages(shapes: Sequence[StageShape]) -> tuple[int, ...]:
    """Indices, ascending, of the four stages among a model's intermediates of these shapes.

    Each run of equal shapes is a level of the pyramid. With fewer than four levels the longest
    ones give several stages, evenly spaced; with too few intermediates the last is repeated.
    """
    levels = [list(run) for _, run in groupby(range(len(shapes)), key=lambda i: shapes[i])]
    if len(levels) == 1 and len(shapes) > STAGES:
        return _in_proportion(len(shapes))
    levels = levels[-STAGES:]
    counts = [1] * len(levels)
    while sum(counts) < min(STAGES, len(shapes)):
        longest = max(range(len(levels)), key=lambda i: len(levels[i]) / counts[i])
        counts[longest] += 1
    indices = [
        level[len(level) * k // count - 1]
        for level, count in zip(levels, counts, strict=True)
        for k in range(1, count + 1)
    ]
    return tuple(indices + indices[-1:] * (STAGES - len(indices)))


def _pooled_width(model: Any) -> int:
    if "pre_logits" not in inspect.signature(model.forward_head).parameters:
        return 0
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def _in_proportion(depth: int) -> tuple[int, ...]:
    """Blocks 1, 3, 9 and 11 of 12, scaled to `depth` > 4 equal blocks and kept apart."""
    blocks: list[int] = []
    for k, end in enumerate((2, 4, 10, 12)):
        after_the_last = blocks[-1] + 1 if blocks else 0
        before_the_next = depth - STAGES + k
        blocks.append(min(max(round(end * depth / 12) - 1, after_the_last), before_the_next))
    return tuple(blocks)
