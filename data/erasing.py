"""Random Erasing (Zhong et al. 2017) of a batch, with timm's ranges and pixel noise."""

from __future__ import annotations

import torch
from torch import Tensor

from .crops import draw_boxes

_AREA = (0.02, 1 / 3)
_RATIO = (0.3, 1 / 0.3)
_MEAN, _STD = 127.5, 64.0  # about N(0, 1) after the usual normalisation


def erase(pixels: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Fill one box of each image, with ``probability``, with normal noise.

    pixels uint8 [B, C, S, S]; returns the same, the input is left as it is. Boxes cover 2 to 33 %.
    """
    batch, channels, height, width = pixels.shape
    boxes, fits = draw_boxes(height, width, batch, _AREA, _RATIO, generator)
    chance = torch.rand(batch, generator=generator, device=generator.device).cpu()
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    rows = torch.nonzero(fits & (chance < probability))[:, 0]
    if not len(rows):
        return pixels
    inside = _inside(boxes[rows].to(pixels.device, non_blocking=True), height, width)
    local = torch.Generator(pixels.device).manual_seed(seed)
    shape = (len(rows), channels, height, width)
    noise = torch.randn(shape, generator=local, device=pixels.device).mul_(_STD).add_(_MEAN)
    there = rows.to(pixels.device, non_blocking=True)
    erased = torch.where(inside[:, None], noise.clamp_(0, 255).to(torch.uint8), pixels[there])
    return pixels.index_copy(0, there, erased)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """bool [n, height, width]: the pixels that lie in each image's box."""
    top, left, tall, wide = boxes.unbind(1)
    y = torch.arange(height, device=boxes.device)
    x = torch.arange(width, device=boxes.device)
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None])
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    return rows[:, :, None] & columns[:, None, :]
