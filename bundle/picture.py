"""The one way from an encoded file to an upright RGB picture; what may be trained on may be served.

Training, evaluation, calibration, golden images, the service, the demo and the profiler all come
here. A file is known by its first bytes, its suffix says nothing; docs/pictures.md has the rules.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from PIL import Image, UnidentifiedImageError, features
from PIL.ImageFile import ImageFile

from ..errors import MldrError
from .metadata import has_more_scans, pixels_only
from .upright import upright_rgb

# Damaged metadata and large sizes are no news where the pixels are good.
warnings.filterwarnings("ignore", module=r"PIL\.")

HEAD = 64  # bytes that `picture_format` needs

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF")

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}

Kind = Literal["empty", "format", "pixels", "scans", "undecodable", "unsuitable"]


class UnfitPicture(MldrError):
    """A file that gives no picture; ``kind`` is the sort of reason, the message the reason."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class Limits:
    """What is not decoded at all, though it may be a good picture. None: no limit of ours."""

    pixels: int | None = None
    scans: int | None = None  # of a JPEG, each of which passes over the whole picture
    slow_pixels: int | None = None  # of a PPM that is not bytes, which Pillow decodes in Python

    @classmethod
    def of_uploads(cls, pixels: int) -> Limits:
        """For files from strangers: encoders write ten scans; such a PPM takes half a second."""
        return cls(pixels, scans=100, slow_pixels=1 << 16)


UNLIMITED = Limits()


def picture_format(head: bytes) -> str | None:
    """The format in FORMATS that a file beginning with ``head`` has, or None: no picture."""
    for magic, name in _SIGNATURES.items():
        if head.startswith(magic):
            raw = name == "TIFF" and head[8:10] == b"CR"  # a Canon's, of which TIFF is the preview
            return None if raw else name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, len(head) - 3, 4))}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    return None


def open_picture(data: bytes, limits: Limits = UNLIMITED) -> Image.Image:
    """An encoded file -> its first frame, upright, mode RGB, with no metadata left.

    Raises UnfitPicture; ``limits`` are looked at before anything is decoded.
    """
    if not data:
        raise UnfitPicture("empty", "an empty file")
    form = picture_format(data[:HEAD])
    if form is None:
        raise UnfitPicture("format", f"not an image in a format taken here: {', '.join(FORMATS)}")
    lacking = missing_reader(form)
    if lacking is not None:
        raise UnfitPicture("format", lacking)
    if form == "JPEG" and limits.scans is not None and has_more_scans(data, limits.scans):
        raise UnfitPicture("scans", f"a JPEG with more than {limits.scans} scans: save it again")
    try:
        return _decoded(data, form, limits, {})
    except MldrError:
        raise
    except Exception as error:  # Pillow's plug-ins raise a dozen types on damaged files
        first = error
    try:  # damaged or oversized metadata must not hide good pixels
        plain, orientation = pixels_only(data, form)
        return _decoded(plain, form, limits, orientation)
    except UnfitPicture:
        raise
    except Exception:
        raise UnfitPicture("undecodable", _reason(form, first)) from None


@cache
def missing_reader(form: str) -> str | None:
    """What is to be installed before ``form`` can be read here; None when it can be."""
    if form == "HEIF":
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return 'HEIC pictures are read by pillow-heif: pip install "mldr-deploy[heic]"'
        register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    elif form == "AVIF" and not features.check("avif"):
        return 'this Pillow does not read AVIF: pip install "pillow>=11.3"'
    elif form == "WEBP" and not features.check("webp"):
        return "this Pillow was built without WebP: pip install --force-reinstall pillow"
    return None


def _decoded(
    data: bytes, form: str, limits: Limits, orientation: Mapping[str, bytes]
) -> Image.Image:
    """The picture, by the plug-in of ``form`` alone; ``orientation`` is metadata to obey."""
    try:
        image = Image.open(io.BytesIO(data), formats=(form,))
    except Image.DecompressionBombError as error:
        raise UnfitPicture("pixels", f"too many pixels ({error}): make it smaller") from None
    _require_size(image, limits)
    image.info.update(orientation)
    try:
        return upright_rgb(image)
    except MldrError as error:
        raise UnfitPicture("unsuitable", str(error)) from None


def _require_size(image: ImageFile, limits: Limits) -> None:
    width, height = image.size
    pixels = width * height
    if limits.pixels is not None and pixels > limits.pixels:
        raise UnfitPicture(
            "pixels", f"{width} x {height} pixels, at most {limits.pixels} are taken: scale it"
        )
    if pixels < 1:
        raise UnfitPicture("undecodable", "an image without pixels")
    slow_limit = limits.slow_pixels
    if (
        slow_limit is not None
        and pixels > slow_limit
        and image.format == "PPM"
        and image.tile[0][0] != "raw"
    ):
        raise UnfitPicture(
            "pixels",
            f"a PPM of text or of other than 8 bits, of more than {slow_limit} pixels: use PNG",
        )


def _reason(form: str, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"begins like {form} but is damaged or of a kind that is not read: save it again"
    line = str(error).partition("\n")[0][:200] or type(error).__name__
    return f"a damaged {form} file ({line})"
