"""The small stem: a CNN's first layers kept at full resolution for 32 and 64 px images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import MldrError
from .evaluation import evaluating

_PROBE = 64  # pixels; every convolutional stem takes it


class _StemPassed(Exception):
    """Ends the probing forward pass once the stem lies behind it."""


def shrink_stem(model: nn.Module, name: str) -> None:
    """Halve the stride of the first overlapping strided convolution; drop the stem's max-pool.

    The usual change for CIFAR: ResNet's 7x7 stride-2 convolution runs at stride 1 and its
    max-pooling becomes the identity, so a 32 px image enters the first stage at 32 px instead
    of 8. Weights keep their shapes.

    Raises:
        MldrError: the model has no such convolution.
    """
    convolution, pool = _find_stem(model)
    if convolution is None:
        raise MldrError(
            f'{name} has no strided convolutional stem, so stem = "small" means nothing for it; '
            "make its patches smaller with patch_size instead"
        )
    layer: Any = model.get_submodule(convolution)
    layer.stride = tuple(max(s // 2, 1) for s in layer.stride)
    if pool is not None:
        parent, _, child = pool.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())


def _find_stem(model: nn.Module) -> tuple[str | None, str | None]:
    """Names of the first strided convolution and of the max-pool between it and the next one.

    Found in the order of execution, because the order of registration may differ.
    """
    found: dict[str, str] = {}

    def visit(name: str, module: Any) -> None:
        if isinstance(module, nn.Conv2d):
            if max(module.stride) > 1 and "convolution" in found:
                raise _StemPassed
            if max(module.stride) > 1:
                if module.kernel_size[0] <= module.stride[0]:
                    raise _StemPassed  # patches do not overlap: patch_size is the key for those
                found["convolution"] = name
        elif isinstance(module, nn.MaxPool2d) and "convolution" in found:
            found["pool"] = name
            raise _StemPassed

    hooks = [
        module.register_forward_pre_hook(lambda m, _, name=name: visit(name, m))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.MaxPool2d)
    ]
    try:
        with evaluating(model):
            model(torch.zeros(1, 3, _PROBE, _PROBE))
    except _StemPassed:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found.get("convolution"), found.get("pool")
