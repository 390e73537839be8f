"""Which files are pictures, what is refused and how, and that metadata never hide pixels."""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, features

from mldr_deploy.bundle import picture
from mldr_deploy.bundle.picture import (
    FORMATS,
    HEAD,
    Limits,
    UnfitPicture,
    missing_reader,
    open_picture,
    picture_format,
)

Make = Callable[..., bytes]
ORIENTED = Image.Exif()
ORIENTED[0x0112] = 6
ORIENTED[0x010F] = "maker"  # so that formats with an orientation of their own keep a block too
HEIC = importlib.util.find_spec("pillow_heif") is not None


def noise(height: int = 48, width: int = 64) -> Image.Image:
    """Blocks of 8 x 8 pixels, which lossy formats keep well."""
    blocks = np.random.default_rng(5).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(blocks.repeat(8, 0).repeat(8, 1))


def saved(form: str, image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or noise()).save(buffer, form, **options)
    return buffer.getvalue()


def every_format() -> dict[str, bytes]:
    if HEIC:
        assert missing_reader("HEIF") is None  # which makes Pillow able to write it too
    written = {"HEIF": HEIC, "AVIF": features.check("avif")}
    return {form: saved(form) for form in FORMATS if written.get(form, True)}


def test_every_format_is_known_by_its_first_bytes_and_opened() -> None:
    files = every_format() | {"JPEG": saved("MPO"), "TIFF": saved("TIFF", big_tiff=True)}
    for form, data in files.items():
        assert picture_format(data[:HEAD]) == form
        near = np.abs(np.asarray(open_picture(data), int) - np.asarray(noise(), int)).mean()
        assert near < 12, form
    assert set(files) >= {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"}


@pytest.mark.skipif(not HEIC, reason='needs pillow-heif: pip install "mldr-deploy[heic]"')
@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert missing_reader("HEIF") is None
    seen = open_picture(saved("HEIF", quality=-1, chroma=444, exif=exif.tobytes()))
    # Written with `exif`, the pixels are as they are and the file says how to turn them.
    marked = saved("PNG", exif=exif)
    truth = ImageOps.exif_transpose(Image.open(io.BytesIO(marked)))
    assert seen.size == truth.size
    assert np.abs(np.asarray(seen, int) - np.asarray(truth, int)).max() <= 4


def test_heic_without_its_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    missing_reader.cache_clear()
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with pytest.raises(UnfitPicture, match=r'pip install "mldr-deploy\[heic\]"') as refusal:
        open_picture(head + bytes(100))
    assert refusal.value.kind == "format"
    missing_reader.cache_clear()


def test_avif_without_its_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture.features, "check", lambda name: False)
    missing_reader.cache_clear()
    with pytest.raises(UnfitPicture, match=r"does not read AVIF: pip install"):
        open_picture(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(100))
    missing_reader.cache_clear()


@pytest.mark.parametrize(
    "data",
    [
        b"no picture",
        b"RIFF1234AVI LIST",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"8BPS\0\1" + bytes(40),
        b"\0\0\1\0\1\0" + bytes(40),  # an icon
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),  # JPEG 2000
        b"PyRGBA 1 1 255\n1234",  # of Pillow's own
        b"Pf 1 1 -1.0\n1234",
        b"II*\0\x10\0\0\0CR\2\0" + bytes(40),  # a camera's raw file
        b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(40),
    ],
)
def test_other_files_are_no_picture_whatever_pillow_could_do(data: bytes) -> None:
    assert picture_format(data[:HEAD]) is None
    with pytest.raises(UnfitPicture, match=r"^not an image in a format taken here: JPEG, PNG"):
        open_picture(data)


def test_a_file_reaches_the_plug_in_of_its_format_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    opener = Image.open

    def spy(file: Any, **options: Any) -> Any:
        asked.append(options)
        return opener(file, **options)

    monkeypatch.setattr(Image, "open", spy)
    for form, data in every_format().items():
        asked.clear()
        open_picture(data)
        assert asked == [{"formats": (form,)}]


def test_truncated_files_are_refused_in_every_format() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    for form, data in every_format().items():
        for part in (0.5, 0.9):
            with pytest.raises(UnfitPicture, match=form) as refusal:
                open_picture(data[: int(len(data) * part)])
            assert refusal.value.kind == "undecodable", form
    with pytest.raises(UnfitPicture, match="an empty file"):
        open_picture(b"")


def test_limits_come_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(image: Image.Image) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr(picture, "upright_rgb", decoded)
    for form, data in every_format().items():
        with pytest.raises(UnfitPicture, match="64 x 48 pixels, at most 3071 are taken") as refusal:
            open_picture(data, Limits(pixels=64 * 48 - 1))
        assert refusal.value.kind == "pixels", form
    text = b"P3 64 48 255\n" + b"1 " * (64 * 48 * 3)
    with pytest.raises(UnfitPicture, match=r"PPM .* of more than 3000 pixels"):
        open_picture(text, Limits(slow_pixels=3000))
    vast = b"P5 60000 60000 255\n"
    with pytest.raises(UnfitPicture, match="too many pixels") as refusal:
        open_picture(vast)
    assert refusal.value.kind == "pixels"


def test_scans_are_those_of_the_picture() -> None:
    """Not what happens to look like one in a preview, or in the film that a phone appends."""
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0\x00"
    good = saved("JPEG", progressive=True)
    assert 3 < good.count(b"\xff\xda") < 100
    comment = b"\xff\xfe" + struct.pack(">H", 4002) + b"\xff\xda" * 2000
    film = good + b"\xff\xda" * 4000
    for data in (film, good[:2] + comment + good[2:]):
        assert np.array_equal(open_picture(data, Limits(scans=100)), open_picture(good))
    with pytest.raises(UnfitPicture, match="more than 100 scans: save it again") as refusal:
        open_picture(good[:-2] + scan * 101 + good[-2:], Limits(scans=100))
    assert refusal.value.kind == "scans"


# --- metadata that Pillow gives up on


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


JPEG_SEGMENTS = {
    "Photoshop's block cut short": segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04"),
    "profile without a number": segment(0xE2, b"ICC_PROFILE\0"),
    "profile in parts that are missing": segment(0xE2, b"ICC_PROFILE\0\1\5abc"),
    "JFIF cut short": segment(0xE0, b"JFIF"),
    "Adobe's marker cut short": segment(0xEE, b"Adobe"),
    "index of fewer pictures than it says": segment(
        0xE2,
        b"MPF\0II*\0\x08\0\0\0\x02\0"
        + struct.pack("<HHIIHHII", 0xB001, 4, 1, 3, 0xB002, 7, 32, 38)
        + bytes(36),
    ),
    "index that is none": segment(0xE2, b"MPF\0garbage"),
    "EXIF with endless values": segment(
        0xE5, b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIII", 0x11A, 5, 2**31 - 1, 26, 0)
    ),
    "three megabytes of segments": segment(0xE5, bytes(65000)) * 50,
    "XMP that is not text": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff\xfe\0\xff"),
}


@pytest.mark.parametrize("kind", JPEG_SEGMENTS)
@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
def test_jpeg_segments_do_not_hide_pixels(kind: str) -> None:
    for image in (noise(), noise().convert("L"), noise().convert("CMYK")):
        for options in ({}, {"exif": ORIENTED}):
            good = saved("JPEG", image, **options)
            spoilt = good[:2] + JPEG_SEGMENTS[kind] + good[2:]
            assert np.array_equal(open_picture(spoilt), open_picture(good))


def broken_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + b"\0\0\0\5"  # a wrong checksum


MEGABYTES = zlib.compress(bytes(3 << 20))
PNG_CHUNKS = {
    "large zTXt": (b"zTXt", b"k\0\0" + MEGABYTES),
    "large iTXt": (b"iTXt", b"k\0\1\0\0\0" + MEGABYTES),
    "large iCCP": (b"iCCP", b"k\0\0" + MEGABYTES),
    "iCCP packed in another way": (b"iCCP", b"k\0\1abc"),
    "iCCP cut short": (b"iCCP", b"k"),
    "zTXt packed in another way": (b"zTXt", b"k\0\7abc"),
    "pHYs cut short": (b"pHYs", b"k"),
    "gAMA cut short": (b"gAMA", b"k"),
    "cHRM cut short": (b"cHRM", b"12345"),
    "sRGB without content": (b"sRGB", b""),
    "eXIf that is none": (b"eXIf", b"garbage"),
    "acTL cut short": (b"acTL", b"\0"),
    "name that is none": (b"a\1cd", b"123"),
}


@pytest.mark.parametrize("kind", PNG_CHUNKS)
@pytest.mark.filterwarnings("ignore:Invalid APNG")
def test_png_chunks_do_not_hide_pixels(kind: str, png: Make, chunk: Make) -> None:
    row = bytes([1, 2, 3, 4, 5, 6])
    spoilt = chunk(*PNG_CHUNKS[kind])
    for data in (
        png(row, 2, 8, 2, before=spoilt),
        png(row, 2, 8, 2, before=spoilt * 2),
        png(row, 2, 8, 2, before=broken_chunk(*PNG_CHUNKS[kind])),
        png(row, 2, 8, 2, after=spoilt) if kind != "name that is none" else png(row, 2, 8, 2),
    ):
        assert np.asarray(open_picture(data)).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    if kind != "eXIf that is none":  # the picture is turned all the same
        up = chunk(b"eXIf", ORIENTED.tobytes().removeprefix(b"Exif\0\0"))
        turned = np.asarray(open_picture(png(row, 2, 8, 2, before=spoilt + up)))
        assert turned.tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


def test_more_text_than_pillow_takes(png: Make, chunk: Make) -> None:
    many = b"".join(chunk(b"tEXt", b"%d\0" % k + bytes(17 << 20)) for k in range(4))
    assert open_picture(png(bytes(6), 2, 8, 2, before=many)).size == (2, 1)


def test_a_damaged_pixel_chunk_is_refused(png: Make) -> None:
    good = png(bytes(6), 2, 8, 2)
    at = good.index(b"IDAT")
    with pytest.raises(UnfitPicture):
        open_picture(good[: at + 6] + b"\xff\xff" + good[at + 8 :])


def test_webp_chunks_do_not_hide_pixels() -> None:
    whole = {"exif": ORIENTED, "xmp": b"<x/>", "icc_profile": b"none"}
    good = saved("WEBP", lossless=True, **whole)
    at = good.index(b"EXIF")
    longer = good[: at + 4] + struct.pack("<I", 10**6) + good[at + 8 :]
    cut = good[:4] + struct.pack("<I", len(good) - 12) + good[8:]  # the last chunk ends behind it
    garbage = good[: at + 8] + b"garbage!" + good[at + 16 :]
    truth = np.asarray(noise())
    for spoilt in (longer, cut):
        assert np.array_equal(open_picture(spoilt), np.rot90(truth, -1))
    assert np.array_equal(open_picture(garbage), truth)


def test_avif_and_tiff_metadata_do_not_hide_pixels(tiff: Make) -> None:
    if features.check("avif"):
        good = saved("AVIF", exif=ORIENTED)
        spoilt = re.sub(rb"(MM\0\*|II\*\0)", b"none", good)
        assert spoilt != good and np.array_equal(open_picture(spoilt), open_picture(good))
    for tag in (
        (700, 4, bytes(8)),  # XMP that is numbers
        (305, 4, bytes(4)),
        (282, 5, struct.pack("<II", 1, 0)),
        (34665, 4, struct.pack("<I", 10**6)),  # EXIF beyond the end
        (34675, 7, b"none!"),
        (33723, 4, bytes(8)),
    ):
        turned = [(274, 3, b"\6\0"), tag]
        seen = np.asarray(open_picture(tiff(bytes(range(6)), (3, 2), 8, 1, tags=turned)))
        assert seen[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
