"""The architecture family of a model, told from its modules."""

from __future__ import annotations

from typing import Literal

from torch import nn

Family = Literal["cnn", "transformer", "mlp", "mamba"]


def family(model: nn.Module) -> Family:
    """Tell "cnn", "transformer", "mlp" or "mamba" from how the model mixes positions."""
    names = {type(m).__name__.lower() for m in model.modules()}
    if any("attention" in n for n in names):
        return "transformer"
    if any("gatedconv" in n or "mamba" in n for n in names):
        return "mamba"
    if any("mixerblock" in n or "gating" in n or "resblock" in n for n in names):
        return "mlp"
    return "cnn"
