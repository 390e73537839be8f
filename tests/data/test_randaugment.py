"""Every operation against timm's own, which works on one Pillow image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm_ops

from mldr_deploy.data.randaugment import OPERATIONS, rand_augment

GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}
MAGNITUDES = [0.0, 2.6, 5.0, 8.7, 9.3, 10.0]


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 6, 6, generator=generator) * 200 + 20
    fine = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    noise = torch.randn(6, 3, 32, 32, generator=generator) * 5
    return (fine + noise).clamp(0, 255).to(torch.uint8)


def by_timm(name: str, picture: torch.Tensor, magnitude: float, sign: int) -> np.ndarray:
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    level = timm_ops.LEVEL_TO_ARG[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm_ops, "_randomly_negate", lambda value: sign * value)
        arguments = level(magnitude, {}) if level else ()
    if name == "PosterizeIncreasing" and arguments == (0,):  # older Pillows masked all away
        return np.zeros((32, 32, 3), np.uint8)
    options = {"resample": Image.Resampling.BILINEAR, "fillcolor": (128,) * 3}
    return np.asarray(timm_ops.NAME_TO_OP[name](image, *arguments, **options))


def test_the_set_is_timms_increasing_set_in_its_order() -> None:
    assert list(OPERATIONS) == timm_ops._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_equals_timms(name: str, sign: int, pictures: torch.Tensor) -> None:
    strengths = torch.tensor(MAGNITUDES)
    out = OPERATIONS[name](pictures, strengths, torch.full((6,), float(sign)))
    assert out.dtype == torch.uint8
    for index, magnitude in enumerate(MAGNITUDES):
        expected = by_timm(name, pictures[index], magnitude, sign).astype(int)
        found = out[index].permute(1, 2, 0).numpy().astype(int)
        difference = np.abs(found - expected)
        assert (difference <= 1).mean() > (0.99 if name in GEOMETRIC else 0.9999), magnitude
        assert difference.mean() < 0.5


def test_a_picture_of_one_colour_survives_contrast_stretching() -> None:
    flat = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    one = torch.ones(1)
    assert torch.equal(OPERATIONS["AutoContrast"](flat, one, one), flat)


def test_half_of_the_images_are_left_alone_by_one_layer() -> None:
    pixels = torch.randint(1, 255, (3000, 3, 8, 8), dtype=torch.uint8)
    out = rand_augment(pixels, 9, 1, torch.Generator().manual_seed(0))
    untouched = (out == pixels).flatten(1).all(1).float().mean()
    assert untouched.item() == pytest.approx(0.5, abs=0.06)


def test_each_image_has_its_own_draw_and_the_seed_decides() -> None:
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8).expand(64, -1, -1, -1)
    out = rand_augment(pixels, 9, 2, torch.Generator().manual_seed(3))
    assert len(out.flatten(1).unique(dim=0)) > 32
    assert torch.equal(out, rand_augment(pixels, 9, 2, torch.Generator().manual_seed(3)))
    assert not torch.equal(out, rand_augment(pixels, 9, 2, torch.Generator().manual_seed(4)))
