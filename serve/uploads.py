"""An uploaded file -> an upright RGB picture, or a refusal with its reason."""

from __future__ import annotations

from PIL import Image

from ..bundle.picture import Kind, Limits, UnfitPicture, open_picture
from .request_refusal import RequestRefusal

_STATUS: dict[Kind, int] = {"format": 415, "pixels": 413, "scans": 413}


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The picture in ``data`` as training would see it: first frame, upright, mode RGB.

    Raises RequestRefusal: 400 for what gives no picture, 413 for more than ``max_pixels`` or too
    many scans, 415 for a format that is not read here.
    """
    if not data:
        raise RequestRefusal(400, "empty", "the upload is empty: send an image file")
    try:
        return open_picture(data, Limits.of_uploads(max_pixels))
    except UnfitPicture as error:
        raise refused(error) from None


def refused(error: UnfitPicture) -> RequestRefusal:
    """The refusal of an upload: 400, 413 or 415, as ``open_image`` says."""
    return RequestRefusal(_STATUS.get(error.kind, 400), error.kind, str(error))
