"""Pictures of every kind come out upright and RGB; damaged ones are named."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageCms

from mldr_deploy.bundle.intake import claims_picture
from mldr_deploy.data.images import ArrayImages, EncodedImages, FileImages, UnreadableImage, decode


def test_grey_palette_alpha_and_cmyk_become_rgb(disk: Any) -> None:
    rgb = disk.picture(0)
    grey = np.asarray(decode(disk.encoded(rgb.convert("L"))))
    assert grey.shape == (16, 16, 3) and np.ptp(grey, axis=2).max() == 0
    palette = rgb.quantize(16)
    shown = decode(disk.encoded(palette))
    assert np.array_equal(np.asarray(shown), np.asarray(palette.convert("RGB")))
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # full magenta and yellow: red
    red = np.asarray(decode(disk.encoded(inks, "TIFF")))
    assert red[..., 0].min() > 200 and red[..., 1:].max() < 60


def test_transparency_is_seen_over_white(disk: Any) -> None:
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 2, 4))
    seen = np.asarray(decode(disk.encoded(half)))
    assert seen[0, 0].tolist() == [0, 0, 255] and seen[0, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, disk: Any) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = disk.encoded(disk.picture(1, 12, 20), "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(decode(data)), np.asarray(expected))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_format_of_a_class_folder_decodes(form: str, disk: Any) -> None:
    assert claims_picture(f"a.{form.lower()}")
    assert decode(disk.encoded(disk.picture(2), form)).size == (16, 16)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_picture_is_named(form: str, disk: Any) -> None:
    data = disk.encoded(disk.picture(3, 64, 64), form)
    (disk.root / "cats").mkdir()
    (disk.root / "cats" / "7.img").write_bytes(data[: len(data) // 2])
    images = FileImages(disk.root, [disk.root / "cats" / "7.img"])
    with pytest.raises(UnreadableImage, match=r"^cats/7\.img \(.+\)$"):
        images.rgb(0)


def test_a_picture_that_is_gone_is_named(disk: Any) -> None:
    images = FileImages(disk.root, [disk.root / "gone.png"])
    with pytest.raises(UnreadableImage, match=r"^gone\.png \(No such file or directory\)$"):
        images.rgb(0)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff but no JPEG", b"RIFF1234"])
def test_what_is_no_picture_says_so(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not an image that Pillow knows$"):
        decode(data)


def test_a_colour_profile_does_not_trouble_decoding(disk: Any) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = disk.picture(4)
    data = disk.encoded(picture, icc_profile=profile)
    assert np.array_equal(np.asarray(decode(data)), np.asarray(picture))


def test_a_fingerprint_sees_where_one_picture_ends() -> None:
    digests = []
    for rows in ([b"ab", b"c"], [b"a", b"bc"], [b"ab", b"c"]):
        digest = hashlib.sha256()
        array = pa.array([b"not in the slice", *rows], pa.large_binary())
        EncodedImages(array.slice(1), [("t", 2)]).feed(digest)
        digests.append(digest.hexdigest())
    assert digests[0] == digests[2] != digests[1]


def test_arrays_of_another_form_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"uint8 \[N, h, w, 3\], not float64 \(2, 4, 4, 3\)"):
        ArrayImages(np.zeros((2, 4, 4, 3)))  # type: ignore[arg-type]
