"""The catalogue of timm's classifiers with family and size; no weights are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import timm
import torch

from .family import Family, family
from .model_registry import list_models, require_known

CLASSES = 1000


@dataclass(frozen=True)
class Listing:
    """One classifier as timm builds it, for 1000 classes."""

    name: str
    family: Family
    parameters: int
    image_size: int  # side in pixels of the published input
    published_weights: bool
    stages: bool  # without them it can teach by its logits, and cannot be a student


def matching(pattern: str) -> list[str]:
    """Names that match a shell pattern, or that contain the text when it has no wildcard.

    Raises:
        MldrError: nothing matches; the message has the nearest names.
    """
    wild = any(mark in pattern for mark in "*?[")
    names = list_models(pattern if wild else f"*{pattern}*")
    if not names:
        require_known(pattern)
    return names


def catalogue(names: list[str]) -> Iterator[Listing | None]:
    """Describe each of ``names``, about 0.1 s each: built on the meta device, without memory.

    None stands for one that cannot classify: timm's encoders of language models take no number of
    classes.
    """
    for name in names:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=CLASSES)
        if model.num_classes != CLASSES:
            yield None
            continue
        published = getattr(model, "pretrained_cfg", None) or {}
        yield Listing(
            name=name,
            family=family(model),
            parameters=sum(p.numel() for p in model.parameters()),
            image_size=published.get("input_size", (3, 224, 224))[-1],
            published_weights=timm.is_model_pretrained(name),
            stages=hasattr(model, "forward_intermediates") and hasattr(model, "forward_head"),
        )
