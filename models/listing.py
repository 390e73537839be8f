"""A classifier as it is published: what `models` lists and `choose` begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["cnn", "transformer", "mlp", "mamba"]


@dataclass(frozen=True)
class Listing:
    """One classifier as timm builds it, for 1000 classes."""

    name: str
    family: Family
    parameters: int
    operations: int | None  # multiply-accumulates of one published input; None: unknown
    image_size: int  # width in pixels of the published input
    published_weights: bool
    stages: bool  # without them it can teach by its logits, and cannot be a student
