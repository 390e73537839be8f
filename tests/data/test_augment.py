"""The augmentation as a whole, and mixup and CutMix against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional

from mldr_deploy.data.augment import Augment, Mix, cut_box
from mldr_deploy.data.data_config import AugmentConfig
from mldr_deploy.data.erasing import erase

PLAIN = {"crop": "none", "flip": 0.0}


def noise(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(),
        AugmentConfig(crop="random-resized", randaugment=9, erase=0.5),
        AugmentConfig(crop="none", randaugment=5, randaugment_ops=3),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 52), (20, 16)])
def test_any_size_comes_out_square_and_the_seed_decides(
    config: AugmentConfig, height: int, width: int
) -> None:
    pixels = noise(16, height, width)
    before = pixels.clone()
    out = Augment(config, 32)(pixels, seeded())
    assert out.shape == (16, 3, 32, 32) and out.dtype == torch.uint8
    assert torch.equal(pixels, before)
    assert torch.equal(out, Augment(config, 32)(pixels, seeded()))
    assert not torch.equal(out, Augment(config, 32)(pixels, seeded(1)))


def test_everything_off_gives_the_pixels_back() -> None:
    pixels = noise(8, 32, 32)
    assert torch.equal(Augment(AugmentConfig(**PLAIN), 32)(pixels, seeded()), pixels)


def test_everything_off_gives_the_centre_crop_of_other_sizes() -> None:
    pixels = noise(4, 48, 64)
    out = Augment(AugmentConfig(**PLAIN), 24)(pixels, seeded())
    square = functional.center_crop(pixels.float(), [48, 48])
    expected = functional.resize(
        square, [24, 24], functional.InterpolationMode.BICUBIC, antialias=True
    )
    assert (out.float() - expected.round().clamp(0, 255)).abs().max() <= 1


def test_flip_has_its_probability() -> None:
    pixels = noise(4000, 4, 4)
    out = Augment(AugmentConfig(crop="none", flip=0.3), 4)(pixels, seeded())
    flipped = (out == pixels.flip(3)).flatten(1).all(1)
    still = (out == pixels).flatten(1).all(1)
    assert (flipped | still).all()
    assert flipped.float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_pad_crop_reaches_every_offset() -> None:
    ramp = torch.arange(1, 82, dtype=torch.uint8).view(1, 1, 9, 9).expand(4000, 3, 9, 9)
    out = Augment(AugmentConfig(pad=4, flip=0.0), 9)(ramp, seeded())
    assert out[:, 0, 4, 4].unique().tolist() == list(range(1, 82))


def test_mixup_is_the_convex_combination_of_its_definition() -> None:
    pixels, labels = noise(12, 6, 6), torch.arange(12) % 5
    mixed, targets = Mix(AugmentConfig(mixup=0.8))(pixels, labels, 5, seeded(7))
    one_hot = F.one_hot(labels, 5).double()
    keep, partner = _solve(mixed.double(), pixels.double())
    assert 0 < keep < 1
    expected = keep * pixels.double() + (1 - keep) * pixels.double()[partner]
    assert (mixed.double() - expected).abs().max() < 1e-4
    assert (targets - (keep * one_hot + (1 - keep) * one_hot[partner])).abs().max() < 1e-6


def _solve(mixed: torch.Tensor, pixels: torch.Tensor) -> tuple[float, torch.Tensor]:
    """(keep, partner) such that mixed = keep * pixels + (1 - keep) * pixels[partner]."""
    partners, keeps = [], []
    for index in range(len(pixels)):
        away = (pixels - pixels[index]).flatten(1)
        moved = (mixed[index] - pixels[index]).flatten()
        share = (away @ moved) / (away**2).sum(1).clamp(min=1e-9)
        rest = (share[:, None] * away - moved).norm(dim=1)
        partners.append(int(rest.argmin()))
        keeps.append(1 - float(share[rest.argmin()]))
    real = [keep for own, keep in enumerate(keeps) if partners[own] != own]
    assert max(real) - min(real) < 1e-6
    return real[0], torch.tensor(partners)


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_pastes_one_box_and_targets_have_its_area(seed: int) -> None:
    pixels, labels = noise(10, 16, 12), torch.arange(10)
    mixed, targets = Mix(AugmentConfig(cutmix=1.0))(pixels, labels, 10, seeded(seed))
    changed = (mixed != pixels).any(1).any(0)
    rows, columns = changed.any(1), changed.any(0)
    box = changed[rows][:, columns]
    assert box.all()  # a full rectangle
    area = box.numel() / (16 * 12)
    partner = targets.clone().fill_diagonal_(-1).argmax(1)
    for index in range(10):
        assert targets[index].sum().item() == pytest.approx(1, abs=1e-6)
        if partner[index] != index and area > 0 and targets[index, index] < 1:
            assert targets[index, index].item() == pytest.approx(1 - area, abs=1e-6)
            inside = pixels[partner[index]][:, changed].float()
            assert torch.equal(mixed[index][:, changed], inside)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.37, 0.9, 1.0])
@pytest.mark.parametrize(("y", "x"), [(0.0, 0.0), (0.5, 0.5), (0.99, 0.2)])
def test_cut_box_equals_timms(keep: float, y: float, x: float) -> None:
    from timm.data.mixup import cutmix_bbox_and_lam

    height, width = 32, 24
    centres = iter([int(y * height), int(x * width)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "randint", lambda *_, **__: next(centres))
        box, kept = cutmix_bbox_and_lam((1, 3, height, width), keep)
    ours, our_kept = cut_box(height, width, keep, y, x)
    assert ours == tuple(map(int, box))
    assert our_kept == pytest.approx(kept)


def test_mixing_off_or_not_drawn_leaves_pixels_and_labels() -> None:
    pixels, labels = noise(4, 8, 8), torch.tensor([2, 0, 1, 2])
    for config in (AugmentConfig(), AugmentConfig(mixup=1.0, mix_probability=0.0)):
        mixed, targets = Mix(config)(pixels, labels, 3, seeded())
        assert torch.equal(mixed, pixels.float())
        assert torch.equal(targets, F.one_hot(labels, 3).float())


def test_both_mixings_share_the_batches() -> None:
    pixels, labels = noise(8, 16, 16), torch.arange(8)
    mix, generator = Mix(AugmentConfig(mixup=0.8, cutmix=1.0)), seeded()
    whole = 0
    for _ in range(200):
        mixed, _ = mix(pixels, labels, 8, generator)
        whole += int((mixed != mixed.round()).any())  # only mixup makes fractions
    assert 70 < whole < 130


def test_erasing_fills_one_box_of_noise_with_its_probability() -> None:
    pixels = torch.full((600, 3, 32, 32), 1, dtype=torch.uint8)
    out = erase(pixels, 0.25, seeded())
    assert torch.equal(pixels, torch.ones_like(pixels))
    changed = (out != 1).any(1)
    touched = changed.flatten(1).any(1)
    assert touched.float().mean().item() == pytest.approx(0.25, abs=0.06)
    for mask in changed[touched]:
        rows, columns = mask.any(1), mask.any(0)
        box = mask[rows][:, columns]
        assert box.float().mean() > 0.95  # noise may hit the old value
        assert 0.015 < box.numel() / 1024 < 0.35
    values = out.permute(0, 2, 3, 1)[changed].float()
    assert values.mean().item() == pytest.approx(127.5, abs=2)
    assert values.std().item() == pytest.approx(62, abs=3)
