"""A model tried out: eval mode for the length of a block, and what a trial may raise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

# What PyTorch and timm raise when an argument or a grid does not fit.
MISFITS = (
    RuntimeError,
    ValueError,
    AssertionError,
    LookupError,
    TypeError,
    ArithmeticError,
    StopIteration,
)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold the model in eval mode without gradients; every module's own mode comes back.

    The way back goes through the model's own `train`, where LeViT and its kin forget the attention
    biases that they keep in eval mode; otherwise weights loaded later would meet the old biases.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()
        for module, training in modes.items():
            module.training = training


def one_line(error: Exception, limit: int = 240) -> str:
    """An error's text on one line of at most `limit` characters, or its kind if it has none."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
