"""Augmentation of whole batches on the device they lie on, and mixing of their pictures.

B images, S the size fed to the networks, C classes. All randomness comes from the generator
passed in. Give one on the CPU: the same seed then draws the same on every device, and a GPU is
never waited for. The same seed also draws the same at every side: what is measured in pixels is
drawn for S and scaled, so that two networks of different sizes see the same part of a picture.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .crops import centre_boxes, crop_boxes, pad_crop_flip, rescaled, resized_crop
from .data_config import AugmentConfig
from .erasing import erase
from .randaugment import rand_augment


class Augment:
    """Crop, flip, RandAugment and erasing, in that order, with parameters of its own for every
    image of the batch."""

    def __init__(self, config: AugmentConfig, image_size: int) -> None:
        self.config = config
        self.image_size = image_size

    def __call__(
        self, pixels: Tensor, generator: torch.Generator, side: int | None = None
    ) -> Tensor:
        """uint8 [B, 3, h, w] -> uint8 [B, 3, side, side]; ``pixels`` is left as it is.

        ``side``: S where not given; at another one the same is done to the same parts.
        """
        config = self.config
        out = self._geometry(pixels, generator, side or self.image_size)
        if config.randaugment > 0:
            out = rand_augment(out, config.randaugment, config.randaugment_ops, generator)
        if config.erase > 0:
            out = erase(out, config.erase, generator, drawn_at=self.image_size)
        return out

    def _geometry(self, pixels: Tensor, generator: torch.Generator, side: int) -> Tensor:
        config = self.config
        batch, _, height, width = pixels.shape
        flip = (_uniform(batch, generator) < config.flip).to(pixels.device, non_blocking=True)
        if config.crop == "random-resized":
            boxes = crop_boxes(height, width, batch, config, generator)
            boxes = boxes.to(pixels.device, non_blocking=True)
            return resized_crop(pixels, boxes, side, config.interpolation, flip)
        if (height, width) != (side, side):
            boxes = centre_boxes(height, width, batch).to(pixels.device, non_blocking=True)
            still = torch.zeros_like(flip)
            pixels = resized_crop(pixels, boxes, side, config.interpolation, still)
        padding = config.pad if config.crop == "pad" else 0
        shift = torch.randint(
            2 * padding + 1, (2, batch), generator=generator, device=generator.device
        )
        border = math.ceil(padding * side / self.image_size)
        place = border + rescaled(shift - padding, self.image_size, side)
        top, left = place.to(pixels.device, non_blocking=True)
        return pad_crop_flip(pixels, border, top, left, flip)


class Mix:
    """Mixup (Zhang 2018) and CutMix (Yun 2019), one draw a batch, as timm's ``Mixup`` in batch
    mode; partners come from a random permutation."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(
        self,
        pixels: Tensor,
        labels: Tensor,
        num_classes: int,
        generator: torch.Generator,
        drawn_at: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """pixels [B, 3, S, S] of 0..255 and labels int64 [B] -> (float32 pixels, targets [B, C]).

        Targets are the labels' one-hot rows mixed as the pixels are; without label smoothing.
        ``drawn_at``: the side for which a box is drawn, then scaled to S; S where not given.
        """
        images = pixels.float()
        targets = F.one_hot(labels, num_classes).float()
        config = self.config
        chance, coin, y, x = torch.rand(4, generator=generator, device=generator.device).tolist()
        if (config.mixup == 0 and config.cutmix == 0) or chance >= config.mix_probability:
            return images, targets
        cut = config.mixup == 0 or (config.cutmix > 0 and coin < 0.5)
        keep = _beta(config.cutmix if cut else config.mixup, generator)
        order = torch.randperm(len(labels), generator=generator, device=generator.device)
        partner = order.to(pixels.device, non_blocking=True)
        if not cut:
            return images.lerp(images[partner], 1 - keep), targets.lerp(targets[partner], 1 - keep)
        height, width = (drawn_at, drawn_at) if drawn_at else pixels.shape[2:]
        edges, keep = cut_box(height, width, keep, y, x)
        top, bottom, left, right = rescaled(torch.tensor(edges), width, pixels.shape[3]).tolist()
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        return mixed, targets.lerp(targets[partner], 1 - keep)


def cut_box(
    height: int, width: int, keep: float, y: float, x: float
) -> tuple[tuple[int, int, int, int], float]:
    """CutMix's box of area ``1 - keep`` about (y, x) in 0..1, clipped to the image.

    Returns (top, bottom, left, right) and the part of the image that is really kept.
    """
    side = math.sqrt(1 - keep)
    box_height, box_width = int(height * side), int(width * side)
    centre_y, centre_x = int(y * height), int(x * width)
    top, bottom = max(centre_y - box_height // 2, 0), min(centre_y + (box_height + 1) // 2, height)
    left, right = max(centre_x - box_width // 2, 0), min(centre_x + (box_width + 1) // 2, width)
    return (top, bottom, left, right), 1 - (bottom - top) * (right - left) / (height * width)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw of Beta(alpha, alpha); torch's own takes no generator."""
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return float(np.random.default_rng(int(seed)).beta(alpha, alpha))
