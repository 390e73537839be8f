"""What two networks of different sizes are shown of the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mldr_deploy.data.augment import Augment, Mix
from mldr_deploy.data.data_config import AugmentConfig, DataConfig
from mldr_deploy.data.images import FileImages
from mldr_deploy.data.loader import TrainBatches
from mldr_deploy.data.split import Split
from mldr_deploy.distill.views import Views

SIDE = 16
PARTS = [
    AugmentConfig(crop="none", flip=0.5),
    AugmentConfig(crop="pad", pad=3),
    AugmentConfig(crop="random-resized"),
    AugmentConfig(crop="random-resized", interpolation="bilinear", mixup=0.8),
    AugmentConfig(crop="pad", pad=4, mixup=0.8, cutmix=1.0),
    AugmentConfig(crop="none", cutmix=1.0),
    AugmentConfig(crop="random-resized", randaugment=9, randaugment_ops=1),
]


def ramps(count: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pictures whose red is the column, green the row and blue the picture: places are colours."""
    pixels = np.empty((count, height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(20, 235, width)[None, None, :]
    pixels[..., 1] = np.linspace(20, 235, height)[None, :, None]
    pixels[..., 2] = np.linspace(20, 235, count)[:, None, None]
    return pixels


def resident(count: int = 24) -> Split:
    return Split.of_pixels(ramps(count, 48, 64), np.arange(count) % 4)


@pytest.fixture
def streamed(tmp_path: Path) -> Split:
    """Files of two sizes, which are decoded as they are needed."""
    paths = []
    for number, pixels in enumerate([*ramps(12, 48, 64), *ramps(12, 70, 50)]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return Split(FileImages(tmp_path, paths), np.arange(24), np.arange(24) % 4)


def views_of(split: Split, augment: AugmentConfig) -> Views:
    data = DataConfig(batch_size=8, image_size=SIDE)
    batches = TrainBatches(split, data, seed=3, device="cpu", augment=augment)
    return Views(batches, Mix(augment), classes=4, seed=3)


def coarse(images: Tensor) -> Tensor:
    """Means over an 8 x 8 grid, which 16, 24 and 32 px share."""
    return F.adaptive_avg_pool2d(images, 8)


@pytest.mark.parametrize("side", [24, 32])
@pytest.mark.parametrize("augment", PARTS, ids=lambda config: repr(config)[14:60])
@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_both_sizes_show_the_same_part_of_the_same_picture(
    kind: str, augment: AugmentConfig, side: int, streamed: Split
) -> None:
    """Places are colours: the same part has the same colours, whatever it was resampled to."""
    views = views_of(resident() if kind == "resident" else streamed, augment)
    for seen in views.epoch(0, sides=(SIDE, side)):
        small, large = seen.by_side[SIDE], seen.by_side[side]
        assert small.shape[2:] == (SIDE, SIDE) and large.shape[2:] == (side, side)
        apart = (coarse(small) - coarse(large)).abs().mean(dim=(1, 2, 3))
        others = (coarse(small) - coarse(large).roll(1, 0)).abs().mean(dim=(1, 2, 3))
        assert apart.max() < 10  # of 255: half a pixel, to which the place in a padding is rounded
        assert others.median() > 4 * apart.median()


def test_the_larger_view_is_resampled_from_the_source(streamed: Split) -> None:
    """One pixel wide stripes are there at the source's size and lost in the student's."""
    stripes = np.zeros((8, 32, 32, 3), np.uint8)
    stripes[:, :, ::2] = 255
    views = views_of(Split.of_pixels(stripes, np.arange(8) % 4), AugmentConfig(crop="none", flip=0))
    (seen,) = views.epoch(0, sides=(SIDE, 32))
    assert torch.equal(seen.by_side[32][0].byte(), torch.from_numpy(stripes[0]).permute(2, 0, 1))
    assert seen.by_side[SIDE].std() < 10


@pytest.mark.parametrize("augment", PARTS, ids=lambda config: repr(config)[14:60])
@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_a_second_size_changes_nothing_of_the_first(
    kind: str, augment: AugmentConfig, streamed: Split
) -> None:
    views = views_of(resident() if kind == "resident" else streamed, augment)
    alone, both = views.epoch(1), views.epoch(1, sides=(SIDE, 24))
    only_larger = views.epoch(1, sides=(24,))
    for single, pair, large in zip(alone, both, only_larger, strict=True):
        assert torch.equal(single.images, pair.images)
        assert torch.equal(single.targets, pair.targets)
        assert torch.equal(large.images, pair.by_side[24])
        assert torch.equal(large.targets, pair.targets)


def test_equal_sizes_share_one_tensor() -> None:
    seen = next(views_of(resident(), PARTS[1]).epoch(0, sides=(SIDE, SIDE)))
    assert list(seen.by_side) == [SIDE] and seen.images is seen.by_side[SIDE]


@pytest.mark.parametrize("side", [24, 32])
def test_erased_boxes_are_the_same_at_both_sizes(side: int) -> None:
    def boxes(width: int) -> Tensor:
        """Where 200 black images were filled: (top, left, bottom, right)."""
        black = torch.zeros(200, 3, SIDE, SIDE, dtype=torch.uint8)
        augment = Augment(AugmentConfig(crop="none", flip=0, erase=1.0), SIDE)
        filled = augment(black, torch.Generator().manual_seed(2), width).amax(1) > 0
        rows, columns = filled.any(2).int(), filled.any(1).int()
        first = torch.stack([rows.argmax(1), columns.argmax(1)], dim=1)
        last = torch.stack([rows.flip(1).argmax(1), columns.flip(1).argmax(1)], dim=1)
        return torch.cat([first, width - last], dim=1)

    assert torch.equal(boxes(side), (boxes(SIDE) * (side / SIDE)).round().long())


def test_padding_is_as_wide_in_proportion() -> None:
    white = torch.full((64, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    augment = Augment(AugmentConfig(crop="pad", pad=4, flip=0), SIDE)
    border = {
        side: (augment(white, torch.Generator().manual_seed(1), side) == 0).float().mean((1, 2, 3))
        for side in (SIDE, 2 * SIDE)
    }
    torch.testing.assert_close(border[SIDE], border[2 * SIDE])
    assert border[SIDE].max() > 0.2
