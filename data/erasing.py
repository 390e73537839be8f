"""Random Erasing (Zhong et al. 2017) of a batch, with timm's ranges and pixel noise."""

from __future__ import annotations

import torch
from torch import Tensor

from .crops import draw_boxes, rescaled

_AREA = (0.02, 1 / 3)
_RATIO = (0.3, 1 / 0.3)
_MEAN, _STD = 127.5, 64.0  # about N(0, 1) after the usual normalisation


def erase(
    pixels: Tensor, probability: float, generator: torch.Generator, drawn_at: int | None = None
) -> Tensor:
    """Fill one box of each image, with ``probability``, with normal noise.

    pixels uint8 [B, C, S, S]; returns the same, the input is left as it is. Boxes cover 2 to 33 %.
    ``drawn_at``: the side for which the boxes are drawn, then scaled to S; S where not given.
    """
    batch, channels, height, width = pixels.shape
    drawn_at = drawn_at or width
    boxes, fits = draw_boxes(drawn_at, drawn_at, batch, _AREA, _RATIO, generator)
    chance = torch.rand(batch, generator=generator, device=generator.device).cpu()
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    rows = torch.nonzero(fits & (chance < probability))[:, 0]
    if not len(rows):
        return pixels
    edges = rescaled(_edges(boxes[rows]), drawn_at, width)
    inside = _inside(edges.to(pixels.device, non_blocking=True), height, width)
    local = torch.Generator(pixels.device).manual_seed(seed)
    shape = (len(rows), channels, height, width)
    noise = torch.randn(shape, generator=local, device=pixels.device).mul_(_STD).add_(_MEAN)
    device_rows = rows.to(pixels.device, non_blocking=True)
    erased = torch.where(inside[:, None], noise.clamp_(0, 255).to(torch.uint8), pixels[device_rows])
    return pixels.index_copy(0, device_rows, erased)


def _edges(boxes: Tensor) -> Tensor:
    """(top, left, height, width) -> (top, left, bottom, right), [n, 4]."""
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def _inside(edges: Tensor, height: int, width: int) -> Tensor:
    """bool [n, height, width]: the pixels that lie in each image's box."""
    top, left, bottom, right = edges.unbind(1)
    y = torch.arange(height, device=edges.device)
    x = torch.arange(width, device=edges.device)
    rows = (y >= top[:, None]) & (y < bottom[:, None])
    columns = (x >= left[:, None]) & (x < right[:, None])
    return rows[:, :, None] & columns[:, None, :]
