"""A model's classifier: which layers it is, and how a new one starts.

timm draws the classifiers of its families differently; EfficientNet's and MobileNet's grow as
1 / sqrt(classes), so that with few classes the first loss is twice ln C and more, and its gradient
destroys pretrained features. Here all start alike, with a loss of ln C.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_STD = 1e-4  # logits of features of norm 1000 then have a standard deviation of 0.1


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that timm calls the model's classifier; some have two."""
    published: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    names = published.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def classifier_tensors(model: nn.Module, classes: int) -> list[Tensor]:
    """Weights [classes, ...] and biases [classes] of the layers that give the logits."""
    prefixes = tuple(f"{name}." for name in head_names(model))
    layers = [module for name, module in model.named_modules() if f"{name}.".startswith(prefixes)]
    tensors: list[Tensor] = []
    for layer in layers:
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if isinstance(weight, Tensor) and weight.ndim > 1 and len(weight) == classes:
            tensors += [weight] if bias is None else [weight, bias]
    return tensors


@torch.no_grad()
def start_small(model: nn.Module, classes: int) -> None:
    """Draw the classifier of ``model`` anew from PyTorch's generator: small, without biases.

    Not zeros: correlations and products of logits have no gradient there.
    """
    for tensor in classifier_tensors(model, classes):
        if tensor.ndim > 1:
            nn.init.normal_(tensor, std=_STD)
        else:
            nn.init.zeros_(tensor)
