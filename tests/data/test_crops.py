"""Batched geometry against torchvision, image by image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from mldr_deploy.data.crops import (
    centre_boxes,
    crop_boxes,
    cut_out,
    pad_crop_flip,
    resized_crop,
)
from mldr_deploy.data.data_config import AugmentConfig


def smooth(batch: int, height: int, width: int) -> torch.Tensor:
    """Pictures with structure at every scale, so that a shift by one pixel is seen."""
    generator = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(batch, 3, height // 4, width // 4, generator=generator) * 255
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    noise = torch.randn(batch, 3, height, width, generator=generator) * 8
    return (fine + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_pad_crop_flip_equals_torchvision_image_by_image(padding: int) -> None:
    pixels = smooth(24, 20, 32)
    generator = torch.Generator().manual_seed(0)
    top, left = torch.randint(2 * padding + 1, (2, 24), generator=generator)
    flip = torch.rand(24, generator=generator) < 0.5
    out = pad_crop_flip(pixels, padding, top, left, flip)
    for index in range(24):
        padded = functional.pad(pixels[index], [padding])
        expected = functional.crop(padded, int(top[index]), int(left[index]), 20, 32)
        if flip[index]:
            expected = functional.horizontal_flip(expected)
        assert torch.equal(out[index], expected)


def test_pad_crop_flip_takes_any_memory_format() -> None:
    pixels = smooth(8, 16, 16)
    zeros, flip = torch.zeros(8, dtype=torch.int64), torch.arange(8) % 2 == 0
    expected = pad_crop_flip(pixels, 2, zeros, zeros, flip)
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(pad_crop_flip(channels_last, 2, zeros, zeros, flip), expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [8, 24, 64])
def test_resized_crop_equals_torchvision_image_by_image(interpolation: str, side: int) -> None:
    pixels = smooth(32, 40, 56)
    config = AugmentConfig(crop="random-resized")
    boxes = crop_boxes(40, 56, 32, config, torch.Generator().manual_seed(1))
    flip = torch.arange(32) % 2 == 1
    out = resized_crop(pixels, boxes, side, interpolation, flip)
    for index, (top, left, height, width) in enumerate(boxes.tolist()):
        expected = functional.resized_crop(
            pixels[index].float(),
            top,
            left,
            height,
            width,
            [side, side],
            InterpolationMode(interpolation),
            antialias=True,
        )
        if flip[index]:
            expected = functional.horizontal_flip(expected)
        rounding = (out[index].float() - expected.clamp(0, 255)).abs().max()
        assert rounding <= 0.5 + 1e-3


def test_a_box_of_the_output_size_is_copied() -> None:
    pixels = smooth(4, 32, 32)
    boxes = centre_boxes(32, 32, 4)
    still = torch.zeros(4, dtype=torch.bool)
    assert torch.equal(resized_crop(pixels, boxes, 32, "bicubic", still), pixels)


def test_boxes_fit_and_cover_what_the_config_asks() -> None:
    config = AugmentConfig(crop="random-resized", scale=(0.2, 0.6), ratio=(0.5, 2.0))
    boxes = crop_boxes(96, 128, 20_000, config, torch.Generator().manual_seed(2))
    top, left, height, width = boxes.double().unbind(1)
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 96).all() and (left + width <= 128).all()
    area, ratio = height * width / (96 * 128), width / height
    assert area.min() > 0.19 and area.max() < 0.62  # sides are rounded to whole pixels
    assert ratio.min() > 0.48 and ratio.max() < 2.05
    assert area.mean().item() == pytest.approx(0.4, abs=0.02)
    # Every place is equally likely: a box's free space is used to one half on average.
    slack = (height < 96) & (width < 128)
    assert (top / (96 - height))[slack].mean().item() == pytest.approx(0.5, abs=0.01)
    assert (left / (128 - width))[slack].mean().item() == pytest.approx(0.5, abs=0.01)


def test_boxes_are_distributed_as_torchvisions() -> None:
    from torchvision.transforms import RandomResizedCrop

    config = AugmentConfig(crop="random-resized")
    ours = crop_boxes(48, 64, 4000, config, torch.Generator().manual_seed(3)).double()
    torch.manual_seed(4)
    picture = torch.empty(3, 48, 64)
    theirs = torch.tensor(
        [
            RandomResizedCrop.get_params(picture, list(config.scale), list(config.ratio))
            for _ in range(4000)
        ]
    ).double()
    scale = theirs.std(0) / math.sqrt(4000)
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 6 * scale).all()
    assert (ours.std(0) / theirs.std(0) - 1).abs().max() < 0.06


@pytest.mark.parametrize(("height", "width"), [(10, 100), (100, 10)])
def test_an_image_too_narrow_for_any_draw_gives_the_largest_centred_box(
    height: int, width: int
) -> None:
    config = AugmentConfig(crop="random-resized", scale=(1.0, 1.0), ratio=(3 / 4, 4 / 3))
    box = crop_boxes(height, width, 1, config, torch.Generator())[0].tolist()
    top, left = (100 - 13) // 2 * (height > width), (100 - 13) // 2 * (width > height)
    assert box == [top, left, min(height, 13), min(width, 13)]


def test_cut_out_is_the_batched_crop_of_one_picture() -> None:
    pixels = smooth(1, 60, 44)
    config = AugmentConfig(crop="random-resized", interpolation="bilinear")
    box = crop_boxes(60, 44, 1, config, torch.Generator().manual_seed(5))
    batched = resized_crop(pixels, box, 24, "bilinear", torch.tensor([False]))
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    single = cut_out(picture, 24, config, torch.Generator().manual_seed(5))
    difference = np.abs(batched[0].permute(1, 2, 0).numpy().astype(int) - single.astype(int))
    assert difference.max() <= 2  # Pillow rounds between its two passes


@pytest.mark.parametrize(("height", "width"), [(1, 500), (500, 1)])
def test_a_line_of_pixels_is_cut_out_at_any_ratio(height: int, width: int) -> None:
    image = Image.new("RGB", (width, height), "red")
    for ratio in ((0.2, 0.3), (3.0, 4.0)):
        config = AugmentConfig(crop="random-resized", ratio=ratio)
        pixels = cut_out(image, 8, config, torch.Generator().manual_seed(0))
        assert pixels.shape == (8, 8, 3) and (pixels == (255, 0, 0)).all()
