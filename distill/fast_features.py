"""A frozen model's features through ONNX Runtime, on CPUs the faster way by a factor of 2 to 3.

The graph is traced here and held to what PyTorch says of the first images; where either fails,
PyTorch goes on alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..bundle.progress import Progress
from ..models.stages import forward_stages
from .small_grids import small_grids
from .task import FrozenTeacher
from .traced import disagreement, traced

_WORTH = 2000  # images from which tracing takes less time than it saves

Pooled = Callable[[Tensor], Tensor]  # network inputs [b, 3, S, S] -> features [b, F]


def fastest(frozen: FrozenTeacher, images: int, device: torch.device, progress: Progress) -> Pooled:
    """The fastest function here that gives pooled features of ``images`` images, in float32."""

    @torch.no_grad()
    def by_torch(inputs: Tensor) -> Tensor:
        if frozen.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with small_grids(device):
            features = forward_stages(frozen.model, inputs, frozen.plan, features=True).features
        assert features is not None
        return features.float()

    if device.type != "cpu" or images < _WORTH:
        return by_torch
    try:
        by_onnx = traced(_Pooled(frozen.model), frozen.side)
    except Exception as error:  # any failure of a converter: PyTorch gives the same features
        progress.note(f"features by PyTorch: {type(error).__name__} while tracing for ONNX Runtime")
        return by_torch
    noise = torch.Generator().manual_seed(0)
    probe = torch.randn(4, 3, frozen.side, frozen.side, generator=noise)
    deviation = disagreement(by_onnx(probe), by_torch(probe))
    if deviation is not None:
        progress.note(f"features by PyTorch: ONNX Runtime's differ by up to {deviation:.3g}")
        return by_torch
    return by_onnx


class _Pooled(nn.Module):
    """A classifier without its last layer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        last = self.model.forward_features(inputs)
        pooled: Tensor = self.model.forward_head(last, pre_logits=True)
        return pooled.flatten(1)
