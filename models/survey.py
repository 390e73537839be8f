"""timm's classifiers looked at one by one; no weights are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import timm
import torch
from torch import nn

from .evaluation import MISFITS
from .family import family
from .listing import Listing
from .operations import operations

CLASSES = 1000


def survey(names: Iterable[str]) -> Iterator[Listing | None]:
    """Describe each of ``names``, about 0.3 s each: built on the meta device, without memory.

    None stands for one that cannot classify: timm's encoders of language models take no number of
    classes.
    """
    for name in names:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=CLASSES)
        yield None if model.num_classes != CLASSES else _listing(name, model)


def _listing(name: str, model: nn.Module) -> Listing:
    published = getattr(model, "pretrained_cfg", None) or {}
    _, height, width = published.get("input_size", (3, 224, 224))
    return Listing(
        name=name,
        family=family(model),
        parameters=sum(p.numel() for p in model.parameters()),
        operations=_operations(model, height, width),
        image_size=width,
        published_weights=timm.is_model_pretrained(name),
        stages=hasattr(model, "forward_intermediates") and hasattr(model, "forward_head"),
    )


def _operations(model: nn.Module, height: int, width: int) -> int | None:
    """None where the model does not run on the meta device."""
    try:
        return operations(model, height, width)
    except MISFITS:
        return None
