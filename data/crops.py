"""Geometry of training images, a whole batch at a time: pad-and-crop, random resized crop, flip.

B images, h x w their size, S the size that comes out. Random numbers are drawn on the host and
only the few numbers an image needs travel, so a GPU is never waited for.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .data_config import AugmentConfig

_ATTEMPTS = 10  # torchvision's and timm's number of tries before the centre is taken
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def pad_crop_flip(pixels: Tensor, padding: int, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Zero-pad, cut windows of the images' own size at (top, left), mirror where ``flip``.

    One gather does all of it. pixels [B, C, h, w]; top and left int64 [B] in 0..2*padding;
    flip bool [B]. Returns [B, C, h, w].
    """
    batch, channels, height, width = pixels.shape
    padded = F.pad(pixels, (padding,) * 4)
    column = torch.arange(width, device=pixels.device)
    columns = torch.where(flip[:, None], column.flip(0), column) + left[:, None]
    rows = torch.arange(height, device=pixels.device) + top[:, None]
    places = (rows * (width + 2 * padding))[:, :, None] + columns[:, None, :]
    places = places.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.reshape(batch, channels, -1).gather(2, places).view_as(pixels)


def crop_boxes(
    height: int, width: int, count: int, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """Inception crops as torchvision's RandomResizedCrop draws them: int64 [count, 4] on the host.

    Each row is (top, left, height, width). Ten draws of (area, aspect) are made for every image
    and the first that fits is taken; if none does, the largest centred box within ``ratio``.
    """
    drawn_boxes, fits = draw_boxes(height, width, count, config.scale, config.ratio, generator)
    fallback = torch.tensor(_centred(height, width, config.ratio))
    return torch.where(fits[:, None], drawn_boxes, fallback)


def draw_boxes(
    height: int,
    width: int,
    count: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Boxes of a share of the image drawn from ``area`` and log-uniform width / height.

    Returns int64 [count, 4], rows (top, left, height, width), and bool [count]: whether one of
    ten draws fits into the image (else the row means nothing). Both on the host.
    """
    draw = torch.rand(4, count, _ATTEMPTS, generator=generator, device=generator.device).cpu()
    areas = height * width * (area[0] + (area[1] - area[0]) * draw[0])
    low, high = (math.log(bound) for bound in ratio)
    aspects = torch.exp(low + (high - low) * draw[1])
    widths, heights = (areas * aspects).sqrt().round(), (areas / aspects).sqrt().round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    top = (draw[2] * (height - heights + 1)).floor()
    left = (draw[3] * (width - widths + 1)).floor()
    boxes = torch.stack([top, left, heights, widths], dim=-1).long()
    first = fits.int().argmax(dim=1)  # argmax gives the first of equals
    return boxes[torch.arange(count), first], fits.any(dim=1)


def _centred(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    box_height, box_width = height, width
    if width / height < ratio[0]:
        box_height = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        box_width = max(1, round(height * ratio[1]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resized_crop(
    pixels: Tensor, boxes: Tensor, side: int, interpolation: str, flip: Tensor
) -> Tensor:
    """Cut a box of its own from every image, resize it to ``side``, mirror where ``flip``.

    Antialiased resampling is linear and separable: two small matrices an image, applied as two
    batched products. Equal to torchvision's ``resized_crop(antialias=True)`` up to rounding.
    pixels uint8 [B, C, h, w]; boxes int64 [B, 4] as from ``crop_boxes``; flip bool [B], on the
    pixels' device. Returns uint8 [B, C, side, side].
    """
    top, left, height, width = boxes.unbind(1)
    vertical = _resampling(top, height, pixels.shape[2], side, interpolation)
    horizontal = _resampling(left, width, pixels.shape[3], side, interpolation)
    horizontal = torch.where(flip[:, None, None], horizontal.flip(1), horizontal)
    out = vertical[:, None] @ pixels.float() @ horizontal[:, None].mT
    return out.round_().clamp_(0, 255).to(torch.uint8)


def _resampling(start: Tensor, length: Tensor, size: int, side: int, interpolation: str) -> Tensor:
    """Weights of every source pixel in every output pixel along one axis: [B, side, size]."""
    scale = (length / side)[:, None, None]
    place = torch.arange(side, device=start.device)[None, :, None]
    source = torch.arange(size, device=start.device)[None, None, :]
    centre = start[:, None, None] + (place + 0.5) * scale
    distance = (source + 0.5 - centre) / scale.clamp(min=1)
    weights = _triangle(distance) if interpolation == "bilinear" else _cubic(distance)
    inside = (source >= start[:, None, None]) & (source < (start + length)[:, None, None])
    weights = weights * inside
    return weights / weights.sum(dim=2, keepdim=True)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, as Pillow and torchvision's antialiased resize use."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def rescaled(places: Tensor, drawn_at: int, side: int) -> Tensor:
    """Whole places, in pixels of an image ``drawn_at`` wide, in one that is ``side`` wide."""
    return places if side == drawn_at else (places * (side / drawn_at)).round().long()


def cut_out(
    image: Image.Image, side: int, config: AugmentConfig, generator: torch.Generator
) -> NDArray[np.uint8]:
    """The random resized crop of one picture of any size, without the flip: [side, side, 3]."""
    top, left, height, width = crop_boxes(image.height, image.width, 1, config, generator)[
        0
    ].tolist()
    box = image.crop((left, top, left + width, top + height))
    return np.asarray(box.resize((side, side), _FILTERS[config.interpolation]))


def centre_boxes(height: int, width: int, count: int) -> Tensor:
    """The largest centred square, for every image: int64 [count, 4]."""
    side = min(height, width)
    return torch.tensor([(height - side) // 2, (width - side) // 2, side, side]).repeat(count, 1)
