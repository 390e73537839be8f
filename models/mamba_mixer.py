"""Vision Mamba's mixer: a Mamba for each direction of the sequence between two projections.

B batch, L tokens, M model width, D = 2M channels of a direction, S states, R = ceil(M / 16) rank
of the step. Both directions lie side by side from the convolution on, the backward one reversed.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .causal_convolution import causal_convolution
from .selective_scan import selective_scan

_KERNEL = 4  # taps of the causal convolution
_STEPS = (1e-3, 0.1)  # smallest and largest step of a fresh model


class BidirectionalMixer(nn.Module):
    """One projection in and out, between them a Mamba for each direction of the sequence.

    Parameters are named as Vim's, whose backward direction bears a `b`.
    """

    def __init__(self, dim: int, d_state: int) -> None:
        super().__init__()
        inner, self.rank, self.d_state = 2 * dim, math.ceil(dim / 16), d_state
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d, self.conv1d_b = (_causal_convolution(inner) for _ in range(2))
        self.x_proj, self.x_proj_b = (
            nn.Linear(inner, self.rank + 2 * d_state, bias=False) for _ in range(2)
        )
        self.dt_proj, self.dt_proj_b = (_step_projection(self.rank, inner) for _ in range(2))
        self.A_log, self.A_b_log = (nn.Parameter(_slopes(inner, d_state)) for _ in range(2))
        self.D, self.D_b = (nn.Parameter(torch.ones(inner)) for _ in range(2))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L, M] -> [B, L, M]: out_proj of the mean of both directions, gated by SiLU."""
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)  # [B, L, D] each
        x = torch.cat((x, x.flip(1)), dim=-1)
        convolutions = (self.conv1d, self.conv1d_b)
        weight = torch.cat([c.weight for c in convolutions])
        bias = torch.cat([cast(Tensor, c.bias) for c in convolutions])
        x = causal_convolution(x, weight, bias).unflatten(2, (2, -1))  # [B, L, 2, D]
        dt, B, C = self._selected(x)
        A = -torch.exp(torch.stack((self.A_log, self.A_b_log)))
        y = selective_scan(x, dt, A, B, C, torch.stack((self.D, self.D_b)))
        ahead, back = y.unbind(2)
        mixed: Tensor = self.out_proj((ahead + back.flip(1)) * (F.silu(gate) / 2))
        return mixed

    def _selected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the scan takes beside x [B, L, 2, D]: dt [B, L, 2, D] and B, C [B, L, 2, S]."""
        ahead, back = x.unbind(2)
        projected = torch.stack((self.x_proj(ahead), self.x_proj_b(back)), dim=2)
        low, B, C = projected.split((self.rank, self.d_state, self.d_state), dim=-1)
        ahead, back = low.unbind(2)
        steps = F.linear(ahead, self.dt_proj.weight), F.linear(back, self.dt_proj_b.weight)
        # The bias is added after autocast: bf16 would round the step it sets by a percent.
        bias = torch.stack((self.dt_proj.bias, self.dt_proj_b.bias))
        return F.softplus(torch.stack(steps, dim=2) + bias), B, C


def _causal_convolution(channels: int) -> nn.Conv1d:
    """The depthwise convolution; the caller cuts what lies beyond the end."""
    return nn.Conv1d(channels, channels, _KERNEL, groups=channels, padding=_KERNEL - 1)


def _slopes(channels: int, states: int) -> Tensor:
    """log(-A) [D, S] of the real S4D initialisation: A = -1, -2, ... -S in every channel."""
    return torch.arange(1, states + 1, dtype=torch.float32).log().repeat(channels, 1)


@torch.no_grad()
def _step_projection(rank: int, channels: int) -> nn.Linear:
    """R -> D; softplus of its bias is log-uniform within `_STEPS`, as Mamba begins.

    Vim's code leaves the backward direction's at a Linear's default; here both begin alike.
    """
    projection = nn.Linear(rank, channels)
    nn.init.uniform_(projection.weight, -(rank**-0.5), rank**-0.5)
    low, high = map(math.log, _STEPS)
    step = torch.exp(torch.rand(channels) * (high - low) + low)
    projection.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
    return projection
