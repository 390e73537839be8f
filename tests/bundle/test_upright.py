"""What stored values mean (docs/pictures.md), against the values that were written."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mldr_deploy.bundle.picture import UnfitPicture, open_picture
from mldr_deploy.bundle.preprocess import Preprocessing, to_pixels
from mldr_deploy.bundle.upright import upright_rgb
from mldr_deploy.errors import MldrError

Make = Callable[..., bytes]
DEEP = np.array([0, 257, 1000, 32896, 40000, 65535])
AS_8_BITS = [0, 1, 4, 128, 156, 255]  # DEEP / 257, to the nearest


def noise(height: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def grey(data: bytes) -> list[int]:
    """The levels of the first row, which must be grey."""
    pixels = np.asarray(open_picture(data))
    assert (pixels == pixels[..., :1]).all()
    return [int(level) for level in pixels[0, :, 0]]


def colours(data: bytes) -> list[list[int]]:
    return [[int(v) for v in pixel] for pixel in np.asarray(open_picture(data))[0]]


# --- which way is up


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_is_turned_once(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(noise(8, 12)), form, exif=exif)
    truth = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert truth.shape[:2] == ((8, 12) if orientation <= 4 else (12, 8))
    once = open_picture(data)
    spec = Preprocessing(size=truth.shape[:2], resize="squash", mean=(0, 0, 0), std=(1, 1, 1))
    for again in (once, upright_rgb(once), upright_rgb(once.copy()), once.convert("RGB")):
        assert np.array_equal(np.asarray(again), truth)
        assert np.array_equal(to_pixels(again, spec), truth)
    # What a program opens itself and hands over, loaded or not, changed or not.
    for touch in (
        lambda i: i,
        lambda i: (i.load(), i)[1],
        Image.Image.copy,
        ImageOps.exif_transpose,
    ):
        opened = touch(Image.open(io.BytesIO(data)))
        assert np.array_equal(to_pixels(opened, spec), truth)
        assert np.array_equal(to_pixels(opened, spec), truth)  # the same object a second time


def test_nothing_of_the_metadata_is_left() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x xmlns:tiff="t" tiff:Orientation="6"/>'
    picture = Image.fromarray(noise(8, 12))
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        once = open_picture(saved(picture, form, exif=exif, xmp=xmp, icc_profile=b"profile"))
        assert once.info == {} and dict(once.getexif()) == {} and once.size == (8, 12)
        resaved = Image.open(io.BytesIO(saved(once, "JPEG")))
        assert 0x0112 not in resaved.getexif()


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_xmp_says_which_way_is_up_where_exif_does_not(form: str) -> None:
    xmp = b'<x xmlns:tiff="t" tiff:Orientation="8"/>'
    data = saved(Image.fromarray(noise(8, 12)), form, xmp=xmp)
    truth = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert truth.shape == (12, 8, 3) and np.array_equal(np.asarray(open_picture(data)), truth)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_hide_the_picture() -> None:
    image = Image.fromarray(noise(8, 12))
    image.info["exif"] = b"Exif\x00\x00MM\x00*\xff\xff\xff\xffgarbage"
    assert np.array_equal(np.asarray(upright_rgb(image)), noise(8, 12))


# --- grey


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_are_divided_by_257(order: str, deflate: bool, tiff: Make, png: Make) -> None:
    samples = DEEP.astype(f"{order}u2").tobytes()
    assert grey(tiff(samples, (6, 1), 16, 1, order=order, deflate=deflate)) == AS_8_BITS
    if order == "<":  # Pillow does not read the other
        assert grey(tiff(samples, (6, 1), 16, 0, deflate=deflate)) == [255 - v for v in AS_8_BITS]
    if order == ">" and not deflate:
        assert grey(png(samples, 6, 16, 0)) == AS_8_BITS
        assert grey(b"P5 6 1 65535\n" + samples) == AS_8_BITS
    assert grey(b"P2 6 1 65535\n" + b" ".join(b"%d" % v for v in DEEP)) == AS_8_BITS


def test_a_named_depth_is_obeyed(tiff: Make) -> None:
    twelve = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x64])  # 0, 2048, 4095, 100 of 4095
    assert grey(tiff(twelve, (4, 1), 12, 1)) == [0, 128, 255, 6]
    assert grey(b"P5 3 1 4095\n" + np.array([0, 2048, 4095], ">u2").tobytes()) == [0, 128, 255]
    assert grey(b"P5 3 1 15\n" + bytes([0, 7, 15])) == [0, 119, 255]
    assert colours(b"P6 1 1 1023\n" + np.array([0, 512, 1023], ">u2").tobytes()) == [[0, 128, 255]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_few_bits_fill_the_range(bits: int, tiff: Make, png: Make) -> None:
    """Every level of ``bits``, written most significant first."""
    levels = np.arange(2**bits).repeat(max(8 // 2**bits, 1))
    packed = np.packbits((levels[:, None] >> np.arange(bits)[::-1]) & 1).tobytes()
    expected = [round(int(level) * 255 / (2**bits - 1)) for level in levels]
    size = (len(levels), 1)
    assert grey(png(packed, len(levels), bits, 0)) == expected
    for order in "<>":
        for deflate in (False, True):
            options = {"order": order, "deflate": deflate}
            assert grey(tiff(packed, size, bits, 1, **options)) == expected
            assert grey(tiff(packed, size, bits, 0, **options)) == expected[::-1]
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed)  # fill order 2
    assert grey(tiff(mirrored, size, bits, 1, tags=[(266, 3, b"\2\0")])) == expected
    if bits == 1:
        assert grey(b"P4 8 1\n" + packed) == expected[::-1]  # 1 is black there


def test_colour_of_16_bits_keeps_its_high_bytes(tiff: Make, png: Make) -> None:
    pixels = np.array([[0, 257, 65535], [4095, 300, 32768]])
    high = [[0, 1, 255], [15, 1, 128]]
    for order in "<>":
        for deflate in (False, True):
            options = {"order": order, "each": 3, "deflate": deflate}
            data = tiff(pixels.astype(f"{order}u2").tobytes(), (2, 1), 16, 2, **options)
            assert colours(data) == high
    assert colours(png(pixels.astype(">u2").tobytes(), 2, 16, 2)) == high
    assert colours(b"P6 2 1 65535\n" + pixels.astype(">u2").tobytes()) == [
        [0, 1, 255],
        [16, 1, 128],
    ]
    alpha = np.array([0, 257, 65535, 65535, 9, 9, 9, 0]).astype(">u2").tobytes()
    assert colours(png(alpha, 2, 16, 6)) == [[0, 1, 255], [255, 255, 255]]
    grey_alpha = np.array([32896, 65535, 0, 0]).astype(">u2").tobytes()
    assert colours(png(grey_alpha, 2, 16, 4)) == [[128] * 3, [255] * 3]


# --- what nothing defines


@pytest.mark.parametrize("most", [255, 1023, 4095, 16383])
def test_16_bits_that_may_be_fewer_are_refused(most: int, tiff: Make, png: Make) -> None:
    values = np.linspace(0, most, 6).round()
    little, big = values.astype("<u2").tobytes(), values.astype(">u2").tobytes()
    coloured = values.repeat(3).astype(">u2").tobytes()
    files = [
        tiff(little, (6, 1), 16, 1),
        tiff(little, (6, 1), 16, 0),
        tiff(little, (6, 1), 16, 1, deflate=True),
        tiff(big, (6, 1), 16, 1, order=">"),
        tiff(coloured, (6, 1), 16, 2, order=">", each=3),
        png(big, 6, 16, 0),
        png(coloured, 6, 16, 2),
        png(np.stack([values, np.full(6, 65535)], 1).astype(">u2").tobytes(), 6, 16, 4),
        b"P5 6 1 65535\n" + big,
    ]
    for data in files:
        with pytest.raises(UnfitPicture, match=rf"no 16-bit value is above {most} of 65535"):
            open_picture(data)
    with pytest.raises(MldrError, match="may be of fewer bits: scale the values"):
        upright_rgb(Image.fromarray(values.astype(np.uint16)[None]))


def test_a_black_picture_of_16_bits_is_black(png: Make) -> None:
    assert grey(png(bytes(12), 6, 16, 0)) == [0] * 6


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
    ("kind", "bits", "sample_format", "words"),
    [
        ("i1", 8, 2, "signed 8-bit"),
        ("i2", 16, 2, "signed 16-bit"),
        ("u4", 32, 1, "unsigned 32-bit"),
        ("i4", 32, 2, "signed 32-bit"),
        ("f4", 32, 3, "float 32-bit"),
        ("f2", 16, 3, "not read"),  # by Pillow
        ("f8", 64, 3, "not read"),
    ],
)
def test_undefined_ranges_are_refused(
    kind: str, bits: int, sample_format: int, words: str, deflate: bool, tiff: Make
) -> None:
    samples = np.array([0, 1, 100, 127]).astype(f"<{kind}").tobytes()
    tags = [(339, 3, bytes([sample_format, 0]))]
    with pytest.raises(UnfitPicture, match=words) as refusal:
        open_picture(tiff(samples, (4, 1), bits, 1, deflate=deflate, tags=tags))
    assert refusal.value.kind == ("undecodable" if words == "not read" else "unsuitable")


def test_modes_without_a_range_are_refused() -> None:
    with pytest.raises(MldrError, match="float pixels, whose range is undefined"):
        upright_rgb(Image.new("F", (2, 2)))
    with pytest.raises(MldrError, match="32-bit integer pixels, whose range is undefined"):
        upright_rgb(Image.new("I", (2, 2)))


def test_what_pillow_would_misread_is_refused(tiff: Make, png: Make) -> None:
    eight = np.arange(256).astype("<u2").tobytes() * 3  # a palette of 8 bits where 16 belong
    planes = np.full(6, 30000, "<u2").tobytes()
    preview = (254, 4, b"\1\0\0\0")
    for data, words in (
        (tiff(bytes([0, 255]), (2, 1), 8, 3, tags=[(320, 3, eight)]), "palette of 8 bits"),
        (tiff(planes, (2, 1), 16, 2, each=3, tags=[(284, 3, b"\2\0")]), "planes of 16 bits"),
        (tiff(bytes(12), (2, 1), 8, 6, each=3), "uncompressed YCbCr"),
        (tiff(bytes(2), (2, 1), 8, 1, tags=[preview]), "a camera's raw file"),
        (png(bytes([0, 1]), 2, 8, 3), "no palette"),
    ):
        with pytest.raises(UnfitPicture, match=words):
            open_picture(data)


# --- transparency and colour


def test_alpha_is_laid_over_white() -> None:
    colour = np.zeros((1, 3, 4), np.uint8)
    colour[0, :, 0], colour[0, :, 3] = 200, (0, 51, 255)
    over = np.asarray(upright_rgb(Image.fromarray(colour, "RGBA")), float)[0]
    for k, alpha in enumerate((0.0, 0.2, 1.0)):
        expected = [200 * alpha + 255 * (1 - alpha), 255 * (1 - alpha), 255 * (1 - alpha)]
        np.testing.assert_allclose(over[k], expected, atol=1)


def test_transparency_of_every_mode_shows_white(tiff: Make) -> None:
    grey_alpha = Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), "LA")
    rgba = Image.fromarray(np.array([[[9, 9, 9, 255], [9, 9, 9, 0]]], np.uint8), "RGBA")
    palette = np.arange(256).repeat(3).astype(np.uint8).tobytes()
    indexed = Image.fromarray(np.array([[9, 7]], np.uint8), "P")
    indexed.putpalette(palette)
    by_index, by_table = indexed.copy(), indexed.copy()
    by_index.info["transparency"] = 7
    by_table.info["transparency"] = bytes(255 * (k != 7) for k in range(256))
    table = np.arange(256).astype("<u2") * 257
    stored = tiff(
        bytes([9, 255, 9, 0]), (2, 1), 8, 3, each=2,
        tags=[(338, 3, b"\2\0"), (320, 3, table.tobytes() * 3)],
    )  # fmt: skip
    keyed = Image.fromarray(np.array([[[9, 9, 9], [4, 5, 6]]], np.uint8))
    keyed.info["transparency"] = (4, 5, 6)
    pictures = [grey_alpha, grey_alpha.convert("La"), rgba, rgba.convert("RGBa"), keyed]
    pictures += [by_index, by_table, grey_alpha.convert("RGBA").convert("PA")]
    for picture in [*pictures, Image.open(io.BytesIO(stored))]:
        assert np.asarray(upright_rgb(picture)).tolist() == [[[9] * 3, [255] * 3]], picture.mode


def test_a_transparent_colour_is_of_the_depth_of_the_file(png: Make, chunk: Make) -> None:
    def key(*levels: int) -> bytes:
        return chunk(b"tRNS", np.array(levels, ">u2").tobytes())

    assert grey(png(bytes([0b00011011]), 4, 2, 0, key(2))) == [0, 85, 255, 255]
    assert grey(png(bytes([0x0F, 0x37]), 4, 4, 0, key(3))) == [0, 255, 255, 119]
    assert grey(png(bytes([0, 127, 200]), 3, 8, 0, key(127))) == [0, 255, 200]
    assert grey(png(bytes([0b10000000]), 2, 1, 0, key(0))) == [255, 255]
    deep = np.array([0, 257, 40000], ">u2").tobytes()
    assert grey(png(deep, 3, 16, 0, key(257))) == [0, 255, 156]
    coloured = np.array([300, 4095, 65535, 0, 0, 40000], ">u2").tobytes()
    assert colours(png(coloured, 2, 16, 2, key(300, 4095, 65535))) == [[255] * 3, [0, 0, 156]]


def test_inks_and_cmyk() -> None:
    """One ink after the other; JPEGs store them inverted, as Adobe does."""
    inks = np.array([[[255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
    expected = [[0, 255, 255], [255, 0, 0], [0, 0, 0], [255, 255, 255]]
    assert colours(saved(Image.fromarray(inks, "CMYK"), "TIFF")) == expected
    large = Image.fromarray(inks.repeat(16, 0).repeat(16, 1), "CMYK")
    seen = np.asarray(open_picture(saved(large, "JPEG", quality=100)), int)[8, 8::16]
    assert np.abs(seen - expected).max() <= 4


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_of_several_frames_the_first_is_taken(form: str) -> None:
    first, second = Image.new("RGB", (32, 16), (250, 10, 10)), Image.new("RGB", (32, 16), "blue")
    seen = open_picture(saved(first, form, save_all=True, append_images=[second]))
    assert seen.size == (32, 16)
    assert np.abs(np.asarray(seen, int) - [250, 10, 10]).max() <= 12  # lossy where it is JPEG


def test_a_colour_profile_changes_nothing() -> None:
    """Whichever it is: the teachers were trained without (docs/pictures.md)."""
    picture = Image.fromarray(noise(8, 12))
    for profile in (b"", b"no profile at all"):
        assert np.array_equal(
            np.asarray(open_picture(saved(picture, "PNG", icc_profile=profile))), noise(8, 12)
        )
