"""The order of a classifier's outputs: named, and put into that of the data's classes.

C classes. An order is int64 [C]: at position c the output that stands for the data's class c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import MldrError
from .classifier import classifier_tensors
from .evaluation import evaluating

Order = NDArray[np.int64]
OrderName = Literal["natural", "sorted"]
ClassOrder = OrderName | tuple[str, ...]

_TOLERANCE = 1e-4  # difference of two logits, as a part of the largest


def natural_key(name: str) -> list[Any]:
    """Sorts 2 before 10 and ignores case, as timm's training program numbers folders."""
    return [int(s) if s.isdecimal() else s for s in re.split(r"(\d+)", name.lower())]


def output_order(class_order: ClassOrder, classes: Sequence[str]) -> Order:
    """The output that stands for each of ``classes``; the outputs are ordered as ``class_order``.

    "natural" (1, 2, 10), "sorted" (1, 10, 2: by code points), or the names themselves.

    Raises:
        MldrError: the names are not those of the data, each once.
    """
    if class_order == "natural":
        names = sorted(classes, key=natural_key)
    elif class_order == "sorted":
        names = sorted(classes)
    else:
        names = list(class_order)
        _require_same_names(names, classes)
    position = {name: output for output, name in enumerate(names)}
    return np.array([position[name] for name in classes], np.int64)


def reorder_outputs(model: nn.Module, order: Order, image_size: int) -> None:
    """Permute the classifier of ``model`` so that output c is what was output ``order[c]``.

    Raises:
        MldrError: the logits did not move so, as in architectures whose classifier is not a layer
            of its own.
    """
    index = torch.from_numpy(order)
    noise = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with evaluating(model):
        before = model(noise)[:, index]
        for tensor in classifier_tensors(model, len(order)):
            tensor.copy_(tensor[index])
        moved = (model(noise) - before).abs().max()
    if not moved <= _TOLERANCE * before.abs().max():
        raise MldrError(
            f"class_order cannot be applied to {type(model).__name__}: its classifier is no layer "
            "of its own; permute the rows of the weights file instead"
        )


def _require_same_names(names: Sequence[str], classes: Sequence[str]) -> None:
    lacking = [name for name in classes if name not in names]
    strange = [name for name in names if name not in classes]
    if lacking or strange or len(names) != len(classes):
        parts = {"not in the data": strange, "not in the list": lacking}
        faults = "; ".join(f"{fault}: {', '.join(n[:5])}" for fault, n in parts.items() if n)
        raise MldrError(
            f"teacher.class_order lists {len(names)} names for the data's {len(classes)} classes "
            f"({faults or 'some stand there twice'}): give each class once, in the order of the "
            "teacher's outputs"
        )
