"""A digit drawn in the browser -> an image like those that the student was trained on.

The scans of ``digits`` were made so: a written digit was fitted into 32 x 32 points, black or
white, and the points of every 4 x 4 block were counted, which leaves 8 x 8 values (UCI, "Optical
Recognition of Handwritten Digits"). The same is done here, so that drawings look like the
student's training images.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..bundle.manifest import Manifest
from ..serve.request_refusal import RequestRefusal
from ..serve.uploads import open_image

SIDE = 32
_BLOCK = 4
_INK = 96  # of 255: what counts as drawn
_COVERED = 0.24  # part of the field; the data set's digits cover 0.30 on the average
_THICKEN = 3  # points at most on every side
_PREFIX = "data:image/png;base64,"


def draws(manifest: Manifest) -> bool:
    """Whether the bundle's classes are the digits that can be drawn."""
    return manifest.data.get("source") == "digits" and manifest.labels == [*"0123456789"]


def scanned(drawing: Image.Image) -> Image.Image:
    """White strokes on black, any size -> an RGB image as the data set has them.

    Raises RequestRefusal (400) where nothing is drawn.
    """
    ink = np.asarray(drawing.convert("L")) >= _INK
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        raise RequestRefusal(
            400, "empty", "nothing is drawn yet: draw a digit with mouse or finger"
        )
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    fitted = _inked(_fitted(Image.fromarray(ink[box[1] : box[3], box[0] : box[2]])))
    blocks = fitted.reshape(SIDE // _BLOCK, _BLOCK, SIDE // _BLOCK, _BLOCK).sum((1, 3))
    scan = np.rint(blocks * (255 / _BLOCK**2)).astype(np.uint8)
    image = Image.fromarray(scan).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return image.convert("RGB")


def _inked(digit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin strokes grow, a point at a time, until they cover as much as those of the data set."""
    for _ in range(_THICKEN):
        if digit.mean() >= _COVERED:
            break
        grown = Image.fromarray(digit).convert("L").filter(ImageFilter.MaxFilter(3))
        digit = np.asarray(grown) > 0
    return digit


def _fitted(digit: Image.Image) -> NDArray[np.bool_]:
    """Scaled to the full height (or width, where it is wider) and centred: bool [32, 32]."""
    scale = SIDE / max(digit.size)
    width, height = (max(1, round(side * scale)) for side in digit.size)
    grey = digit.convert("L").resize((width, height), Image.Resampling.BOX)
    field = np.zeros((SIDE, SIDE), np.bool_)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    field[top : top + height, left : left + width] = np.asarray(grey) >= 128
    return field


def decoded(url: str, most_bytes: int, most_pixels: int) -> Image.Image:
    """The picture in a canvas's data URL. Raises RequestRefusal."""
    if not url.startswith(_PREFIX):
        raise RequestRefusal(400, "drawing", "the drawing is not a PNG data URL")
    if len(url) > most_bytes:
        raise RequestRefusal(413, "body_size", f"the drawing has more than {most_bytes} bytes")
    try:
        data = base64.b64decode(url.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise RequestRefusal(400, "drawing", "the drawing is not a PNG data URL") from None
    return open_image(data, most_pixels)
