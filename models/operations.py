"""Operations of a model, counted by PyTorch on the meta device: nothing is computed."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def operations(model: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of one image [3, height, width]; ``model`` is on the meta device.

    Convolutions and matrix products are counted, attention's among them; a Mamba's scan,
    normalisation and activations are not. The model is frozen and in eval mode afterwards.
    """
    with (
        torch.device("meta"),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        # Frozen: the counter asks each input for its gradient, which a view of a parameter lacks.
        model.eval().requires_grad_(False)(torch.zeros(2, 3, height, width))
    return int(counter.get_total_flops()) // 4  # two images, two operations each
