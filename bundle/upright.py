"""A picture of any Pillow mode -> as a person sees it: upright, RGB with 8 bits.

What stored values mean is the table in docs/pictures.md. What no rule decides is refused: a
picture that comes out near-black would be trained on without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import MldrError

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {  # EXIF 2.32, 4.6.4 A: value -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# TIFF tags.
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES = 254, 258, 259, 262, 284
_PALETTE, _SAMPLE_FORMAT, _DNG_VERSION = 320, 339, 50706
_UNSIGNED, _FLOAT = {1, 4}, 3  # 4 is "undefined"
_SHALLOW = 1 << 14  # 16-bit values that all lie below may have been meant for fewer bits
_GREY_STEP = {"L;2": 85, "L;4": 17}  # from a level in the file to Pillow's
_REMEDY = "scale the values to the full range and save them with 8 bits"


def upright_rgb(image: Image.Image) -> Image.Image:
    """``image`` upright and in mode RGB, without metadata; once done, doing it again is nothing.

    The orientation is EXIF's, else XMP's; transparency is laid over white. The pixels may be
    those of ``image``. Raises MldrError for values whose meaning is not defined.
    """
    if type(image) is Image.Image and image.mode == "RGB" and not (image.info or image.getexif()):
        return image
    coding = _coding(image)
    deep = _is_deep(image, coding)
    image.load()  # TIFF turns itself upright here, so the orientation is asked for afterwards
    turn = _turn(image)
    if image.mode.startswith("I"):
        image = _grey(image, deep)
    elif deep:
        bands: Any = image.getextrema()  # Pillow keeps the high bytes of colours
        _require_depth(255 + 256 * max(high for _, high in bands[:3]))
    picture = _rgb(image, str(coding[0]))
    if turn is not None:
        picture = picture.transpose(turn)
    bare = picture._new(picture.im)  # the same pixels: a copy would take as long as decoding
    bare.info = {}
    return bare


def _coding(image: Image.Image) -> Sequence[object]:
    """How an image that is not loaded yet is stored: Pillow's raw mode, and options."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ("",)
    options = tiles[0][3]
    return options if isinstance(options, tuple) and options else (options,)


def _is_deep(image: Image.Image, coding: Sequence[object]) -> bool:
    """Whether samples have 16 bits, all of which should be used. Refuses what nothing defines."""
    if image.mode == "RGB" and image.format not in ("PNG", "PPM", "TIFF"):
        return False
    if isinstance(image, TiffImageFile):
        return _is_deep_tiff(image)
    if image.mode == "F":
        raise MldrError(f"image has float pixels, whose range is undefined: {_REMEDY}")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise MldrError(f"image has 32-bit integer pixels, whose range is undefined: {_REMEDY}")
    if image.mode == "P" and image.format == "PNG" and image.palette is None:
        raise MldrError("image has no palette for its colours: save it again")
    if image.format == "PPM":  # its header names the largest value, and programs name 65535 always
        return coding[0] == "I;16B" or 65535 in coding
    return image.mode.startswith("I") or (image.format == "PNG" and ";16" in str(coding[0]))


def _is_deep_tiff(image: TiffImageFile) -> bool:
    tags = image.tag_v2
    if tags.get(_SUBFILE, 0) & 1 or _DNG_VERSION in tags:
        raise MldrError("a camera's raw file, of which only a preview would be read: develop it")
    bits = max(tags.get(_BITS, (1,)))
    signs = set(tags.get(_SAMPLE_FORMAT, (1,)))
    if bits > 16 or not signs <= _UNSIGNED:
        kind = "float" if _FLOAT in signs else "unsigned" if signs <= _UNSIGNED else "signed"
        raise MldrError(f"image has {kind} {bits}-bit pixels, whose range is undefined: {_REMEDY}")
    uncompressed = tags.get(_COMPRESSION, 1) == 1
    if uncompressed and tags.get(_PHOTOMETRIC) == 6:
        raise MldrError("image is uncompressed YCbCr, which is not read: save it as RGB")
    if uncompressed and bits == 16 and tags.get(_PLANES, 1) == 2:
        raise MldrError("image has uncompressed planes of 16 bits, which are not read: save as PNG")
    if image.mode == "P" and 0 < max(tags.get(_PALETTE, (0,))) < 256:
        raise MldrError("image has a palette of 8 bits where TIFF has 16: save it as PNG")
    return bool(bits == 16)


def _require_depth(largest: int) -> None:
    """Refuse 16-bit values that stay within 14 bits: a dark picture, or one of another range?"""
    if 0 < largest < _SHALLOW:
        raise MldrError(
            f"no 16-bit value is above {largest} of 65535, so they may be of fewer bits: {_REMEDY}"
        )


def _grey(image: Image.Image, deep: bool) -> Image.Image:
    """Grey of 16 bits -> L, the nearest of value / 257; LA where one value is transparent."""
    values: NDArray[np.int64] = np.asarray(image).astype(np.int64)
    if deep:
        _require_depth(int(values.max(initial=0)))
    white = 65535
    if isinstance(image, TiffImageFile):
        white = (1 << max(image.tag_v2.get(_BITS, (16,)))) - 1  # TIFF has 12 bits too
        if image.tag_v2.get(_PHOTOMETRIC, 0) == 0:
            values = white - values
    grey = Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
    key = image.info.get("transparency")
    if key is not None:
        grey.putalpha(Image.fromarray((values != key).astype(np.uint8) * np.uint8(255)))
    return grey


def _with_key(image: Image.Image, raw_mode: str) -> Image.Image:
    """``image``, its transparent colour (of PNG) in the scale of Pillow's pixels."""
    key = image.info.get("transparency")
    if image.mode == "L" and raw_mode in _GREY_STEP and key is not None:
        image = image.copy()
        image.info["transparency"] = min(key * _GREY_STEP[raw_mode], 255)
    elif image.mode == "RGB" and ";16" in raw_mode and key is not None:
        image = image.copy()
        image.info["transparency"] = tuple(level >> 8 for level in key)
    return image


def _rgb(image: Image.Image, raw_mode: str) -> Image.Image:
    """Samples of 8 bits -> RGB, transparency over white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    image = _with_key(image, raw_mode)
    if image.has_transparency_data:
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        paper = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return image.convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels, which decode
        return None
