"""Stage projectors: from a stage's feature map to a descriptor and logits.

B batch, D the stage's channels, H x W its grid, P descriptor width, C classes; stages k = 1..4.
The map-like form is the authors', who have it from OFA-KD (arXiv 2310.19444); they released no
token-like one, so that is OFA-KD's: patch merging with GELU, then transformer blocks, the mean.
Projectors live in training only; the student that ships does not hold them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.stages import STAGES, StagePlan, StageShape
from .precision import at_least_float32


class Projection(NamedTuple):
    """What one stage says."""

    descriptor: Tensor  # [B, P]
    logits: Tensor  # [B, C]


class StageProjector(nn.Module):
    """A body that brings [B, D, H, W] to a descriptor [B, P], and a classifier on top of it.

    Depthwise convolutions are computed in fp32 on CPUs, whose bf16 kernels for them are four to
    five times slower.
    """

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.classifier = nn.Linear(width, classes)
        self._depthwise = any(getattr(layer, "groups", 1) > 1 for layer in body.modules())
        self.apply(_initialise)

    def forward(self, stage: Tensor) -> Projection:
        """[B, D, H, W] -> descriptor [B, P] and logits [B, C]."""
        if self._depthwise and stage.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                descriptor = self.body(at_least_float32(stage))
        else:
            descriptor = self.body(stage)
        return Projection(descriptor, self.classifier(descriptor))


def stage_projectors(plan: StagePlan, width: int, classes: int) -> nn.ModuleList:
    """The four projectors of a student with this plan, stage 1 first."""
    make = map_body if plan.layout == "map" else token_body
    bodies = [make(shape, k + 1, width) for k, shape in enumerate(plan.shapes)]
    return nn.ModuleList(StageProjector(body, width, classes) for body in bodies)


def map_body(shape: StageShape, stage: int, width: int) -> nn.Module:
    """(4 - k) stride-2 separable blocks, the width doubling and ending at P; pooled to [B, P]."""
    channels, blocks = shape.channels, STAGES - stage
    layers: list[nn.Module] = []
    for block in range(blocks):
        wider = width if block == blocks - 1 else 2 * channels
        layers.append(separable_block(channels, wider))
        channels = wider
    if not blocks:
        layers.append(nn.Conv2d(channels, width, kernel_size=1, bias=False))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def separable_block(channels: int, wider: int) -> nn.Sequential:
    """Two depthwise-separable 3x3 convolutions, the first of stride 2, each with BN and ReLU."""

    def half(out: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, out, kernel_size=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        ]

    return nn.Sequential(*half(channels, 2), *half(wider, 1))


def token_body(shape: StageShape, stage: int, width: int) -> nn.Module:
    """Patch merging to half the grid, max(4 - k, 1) transformer blocks of 4 heads, the mean."""
    channels = shape.channels
    blocks = [
        nn.TransformerEncoderLayer(
            channels,
            nhead=math.gcd(4, channels),
            dim_feedforward=4 * channels,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        for _ in range(max(STAGES - stage, 1))
    ]
    last = nn.Identity() if channels == width else nn.Linear(channels, width)
    return nn.Sequential(PatchMerging(channels), nn.GELU(), *blocks, TokenMean(), last)


class PatchMerging(nn.Module):
    """2 x 2 neighbours become one token, as Swin does it: [B, D, H, W] -> [B, HW/4, D]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduce = nn.Linear(4 * channels, channels, bias=False)

    def forward(self, stage: Tensor) -> Tensor:
        """An odd grid gets a row or column of zeros."""
        padded = F.pad(stage, (0, stage.shape[3] % 2, 0, stage.shape[2] % 2))
        merged = F.pixel_unshuffle(padded, 2).flatten(2).mT  # [B, HW/4, 4D]
        tokens: Tensor = self.reduce(self.norm(merged))
        return tokens


class TokenMean(nn.Module):
    """The tokens' average."""

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, D] -> [B, D]."""
        return tokens.mean(dim=1)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """Linear weights truncated normal 0.02, convolutions Kaiming by fan-out, as the authors'."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.MultiheadAttention):
        nn.init.trunc_normal_(module.in_proj_weight, std=0.02)  # a bare parameter, no Linear
    elif isinstance(module, nn.Conv2d):
        # Plain fan-out, as the authors have it: a depthwise filter's is not divided by its groups,
        # so it starts small (0.06 at 64 channels), and learns faster under its batch norm.
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
