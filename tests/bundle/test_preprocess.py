"""Against torchvision's and timm's evaluation transforms, and against Pillow by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from timm.data import create_transform

from mldr_deploy.bundle.picture import UnfitPicture
from mldr_deploy.bundle.preprocess import (
    Preprocessing,
    normalise,
    preprocess,
    resized_size,
    to_pixels,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spec(**changes: Any) -> Preprocessing:
    return Preprocessing(**{"size": (32, 32), "mean": MEAN, "std": STD, **changes})


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(4, 90),
    width=st.integers(4, 90),
    size=st.sampled_from([(32, 32), (17, 17), (24, 40), (40, 24)]),
    crop=st.sampled_from([1.0, 0.95, 0.9, 0.875, 0.5]),
    resize=st.sampled_from(["shortest", "squash"]),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)
def test_equal_to_timm(
    height: int,
    width: int,
    size: tuple[int, int],
    crop: float,
    resize: str,
    interpolation: str,
) -> None:
    image = Image.fromarray(noise(height, width))
    ours = spec(size=size, crop_fraction=crop, resize=resize, interpolation=interpolation)
    transform = create_transform(
        (3, *size),
        crop_pct=crop,
        crop_mode="squash" if resize == "squash" else "center",
        interpolation=interpolation,
        mean=MEAN,
        std=STD,
    )
    torch.testing.assert_close(
        torch.from_numpy(preprocess([image], ours)[0]), transform(image), atol=2e-6, rtol=0
    )


def test_the_rounding_is_what_the_manifest_states() -> None:
    image = Image.fromarray(noise(375, 500))
    ours = spec(size=(224, 224))
    stated = ours.model_dump(mode="json")["rounding"]
    assert (stated["long_side"], stated["crop_offset"]) == ("floor", "half-to-even")
    fitted = image.resize((298, 224), Image.Resampling.BICUBIC)  # 298.67, and 37 on either side
    assert np.array_equal(to_pixels(image, ours), np.asarray(fitted.crop((37, 0, 261, 224))))
    odd = image.resize((301, 224), Image.Resampling.BICUBIC)  # an offset of 38.5
    assert np.array_equal(to_pixels(odd, ours), np.asarray(odd.crop((38, 0, 262, 224))))


def test_a_bundle_from_before_the_statement_is_read_and_another_statement_refused() -> None:
    stated = spec().model_dump(mode="json")
    before = {name: stated[name] for name in stated if name not in ("decoding", "rounding")}
    assert Preprocessing.model_validate(before) == spec()
    with pytest.raises(ValidationError, match=r"rounding\.long_side"):
        Preprocessing.model_validate({**before, "rounding": {"long_side": "nearest"}})
    with pytest.raises(ValidationError, match=r"decoding\.colour_profile"):
        Preprocessing.model_validate({**before, "decoding": {"colour_profile": "srgb"}})


def test_a_fitting_image_is_not_resampled() -> None:
    pixels = noise(32, 32)
    assert np.array_equal(to_pixels(pixels, spec()), pixels)
    assert np.array_equal(to_pixels(Image.fromarray(pixels), spec()), pixels)


def test_arrays_and_images_give_the_same_pixels() -> None:
    pixels = noise(50, 41)
    ours = spec(crop_fraction=0.9)
    assert np.array_equal(to_pixels(pixels, ours), to_pixels(Image.fromarray(pixels), ours))


def thin(height: int, width: int) -> Image.Image:
    return Image.new("RGB", (width, height))


@pytest.mark.parametrize(
    ("height", "width", "words"),
    [
        (400_000, 1, "1 x 400000 pixels would become 224 x 89600000 before the crop: crop it"),
        (10_000_000, 1, "1 x 10000000 pixels would become 224 x 2240000000 before"),
        (1, 10_000_000, "10000000 x 1 pixels would become 2240000000 x 224 before"),
    ],
)
def test_a_thin_picture_that_would_fill_the_memory_is_refused(
    height: int, width: int, words: str
) -> None:
    pixels = np.broadcast_to(np.uint8(0), (height, width, 3))
    for image in (thin(height, width), pixels):
        with pytest.raises(UnfitPicture, match=f"^{words}") as refusal:
            to_pixels(image, spec(size=(224, 224)))
        assert refusal.value.kind == "pixels"
    with pytest.raises(UnfitPicture, match="before the crop"):
        preprocess([thin(height, width)], spec(size=(224, 300)))
    assert to_pixels(thin(height, width), spec(resize="squash")).shape == (32, 32, 3)


def test_the_bound_is_64_million_pixels_after_the_resize_or_4_to_1() -> None:
    ours = spec(size=(224, 224))
    assert resized_size(1275, 1, ours) == (285_600, 224)
    with pytest.raises(UnfitPicture):
        resized_size(1276, 1, ours)
    large = spec(size=(8192, 8192), crop_fraction=0.875)
    assert resized_size(100, 400, large) == (9362, 37_448)
    with pytest.raises(UnfitPicture):
        resized_size(100, 401, large)


def test_channels_are_scaled_by_their_own_numbers_in_either_order() -> None:
    pixels = noise(32, 32)[None]
    rgb = normalise(pixels, spec())
    expected = (pixels / 255.0 - MEAN) / STD  # float64 [1, H, W, 3]
    assert rgb.dtype == np.float32 and rgb.flags.c_contiguous
    np.testing.assert_allclose(rgb.transpose(0, 2, 3, 1), expected, atol=1e-6)
    assert np.array_equal(normalise(pixels, spec(channel_order="bgr")), rgb[:, ::-1])


def test_affine_is_what_normalise_applies() -> None:
    scale, bias = spec().affine()
    assert scale.dtype == bias.dtype == np.float32
    pixels = noise(32, 32)[None]
    by_hand = pixels.astype(np.float32) * scale + bias
    assert np.array_equal(normalise(pixels, spec()), by_hand.transpose(0, 3, 1, 2))


def test_a_batch_is_its_images_and_may_be_empty() -> None:
    images = [noise(40, 50, 1), noise(32, 32, 2), noise(33, 32, 3)]
    batch = preprocess(images, spec())
    assert batch.shape == (3, 3, 32, 32)
    for k, image in enumerate(images):
        assert np.array_equal(batch[k], preprocess([image], spec())[0])
    assert preprocess([], spec()).shape == (0, 3, 32, 32)


def test_arrays_that_are_not_rgb_are_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 \[h, w, 3\], not float32 \(4, 4, 3\)"):
        to_pixels(np.zeros((4, 4, 3), np.float32), spec())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not uint8 \(4, 4\)"):
        to_pixels(np.zeros((4, 4), np.uint8), spec())


@pytest.mark.parametrize(
    "change",
    [
        {"size": (0, 32)},
        {"crop_fraction": 0},
        {"crop_fraction": 1.1},
        {"std": (0.1, 0.0, 0.1)},
        {"mean": (float("nan"), 0, 0)},
        {"std": (float("inf"), 1, 1)},
        {"resize": "longest"},
        {"interpolation": "box"},
        {"channel_order": "grb"},
        {"gamma": 2.2},
    ],
)
def test_impossible_values_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**change)


def test_it_survives_json() -> None:
    ours = spec(crop_fraction=0.875, channel_order="bgr")
    assert Preprocessing.model_validate_json(ours.model_dump_json()) == ours
