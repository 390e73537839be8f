"""The exponential moving average of a student's weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """``module`` follows a student: average = decay * average + (1 - decay) * weights.

    PyTorch's, but for its update, which sends its counter to the device at every step and so waits
    for a GPU; here it stays on the host. Buffers are averaged as parameters are.
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        super().__init__(student, use_buffers=True)
        self._decay = decay
        self.requires_grad_(False)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the student's weights as they are after a step; the first ones are copied."""
        averaged = [*self.module.parameters(), *self.module.buffers()]
        current = [*model.parameters(), *model.buffers()]
        if int(self.n_averaged) == 0:
            torch._foreach_copy_(averaged, current)
        else:
            pairs = list(zip(averaged, current, strict=True))
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            averages, weights = (list(part) for part in zip(*floats, strict=True))
            torch._foreach_lerp_(averages, weights, 1 - self._decay)
            for count, batches in pairs:  # batch norm's number of batches
                if not count.is_floating_point():
                    count.copy_(count * self._decay + batches * (1 - self._decay))
        self.n_averaged += 1
