"""The small stem: a CNN's first layers kept at full resolution for 32 and 64 px images."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MldrError
from .evaluation import MISFITS, evaluating


def shrink_stem(model: nn.Module, name: str, image_size: int) -> None:
    """Halve the stride of the first overlapping strided convolution; drop the stem's max-pool.

    The usual change for CIFAR: ResNet's 7x7 stride-2 convolution runs at stride 1 and its
    max-pooling becomes the identity, so a 32 px image enters the first stage at 32 px instead
    of 8. Weights keep their shapes.

    Raises:
        MldrError: the model has no such convolution.
    """
    stem = _Stem(model, image_size)
    if stem.convolution is None:
        raise MldrError(
            f'{name} has no strided convolutional stem, so stem = "small" means nothing for it; '
            "make its patches smaller with patch_size instead"
        )
    layer: Any = model.get_submodule(stem.convolution)
    layer.stride = tuple(max(s // 2, 1) for s in layer.stride)
    if isinstance(layer.padding, tuple) and any(layer.padding):
        layer.padding = tuple((k - 1) // 2 for k in layer.kernel_size)  # 7x7 stride 4 pads 2
    if stem.pool is not None:
        parent, _, child = stem.pool.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())


class _StemPassed(Exception):
    """Ends the probing pass once the stem lies behind it."""


class _Stem:
    """Names of a stem's strided convolution and of the max-pool that follows it.

    Found by a pass that ends with the stem, because modules are not always registered in the
    order in which they run.
    """

    def __init__(self, model: nn.Module, image_size: int) -> None:
        self.convolution: str | None = None
        self.pool: str | None = None
        self._pooled_from = 0  # the side in pixels of what the pool was given
        hooks = [
            module.register_forward_pre_hook(self._visitor(name))
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d | nn.MaxPool2d)
        ]
        like = next(model.parameters())
        images = torch.zeros(1, 3, image_size, image_size, device=like.device)
        try:
            # Deeper layers may refuse a size that only the smaller stem makes right.
            with evaluating(model), contextlib.suppress(_StemPassed, *MISFITS):
                model(images)
        finally:
            for hook in hooks:
                hook.remove()

    def _visitor(self, name: str) -> Any:
        def visit(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            side = inputs[0].shape[-1]
            if isinstance(module, nn.MaxPool2d):
                self._visit_pool(name, module, side)
            elif isinstance(module, nn.Conv2d):
                self._visit_convolution(name, module, side)

        return visit

    def _visit_pool(self, name: str, pool: nn.MaxPool2d, side: int) -> None:
        if self.convolution and not self.pool and _largest(pool.stride) > 1:
            self.pool, self._pooled_from = name, side

    def _visit_convolution(self, name: str, convolution: nn.Conv2d, side: int) -> None:
        if side == self._pooled_from:  # the pool feeds a branch beside this convolution
            self.pool = None
        if max(convolution.stride) == 1:
            return
        if self.convolution is not None or convolution.kernel_size[0] <= convolution.stride[0]:
            raise _StemPassed  # patches that do not overlap have a key of their own
        self.convolution = name


def _largest(stride: int | tuple[int, ...]) -> int:
    return stride if isinstance(stride, int) else max(stride)
