"""An uploaded file -> an image, or a refusal with its reason; limits come before decoding."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from ..errors import MldrError
from .refusal import Refusal

# Format -> how its files begin. WebP: RIFF, then four bytes of length.
_SIGNATURES = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF8",
    "BMP": b"BM",
    "WEBP": b"RIFF",
}
FORMATS = tuple(_SIGNATURES)
# Every scan of a progressive JPEG passes over the whole picture; encoders write about ten.
_MOST_SCANS = 100
_START_OF_SCAN = b"\xff\xda"


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The image in ``data``, first frame, decoded but not yet converted.

    Raises Refusal: 400 for what does not decode, 413 for more than ``max_pixels``, 415 for a
    format that is not in FORMATS.
    """
    if not data:
        raise Refusal(400, "empty", "the upload is empty: send an image file")
    form = next((name for name, magic in _SIGNATURES.items() if data.startswith(magic)), None)
    if form is None or (form == "WEBP" and data[8:12] != b"WEBP"):
        raise Refusal(415, "format", f"not an image in a format taken here: {', '.join(FORMATS)}")
    if form == "JPEG" and data.count(_START_OF_SCAN) > _MOST_SCANS:
        raise Refusal(413, "scans", f"a JPEG with more than {_MOST_SCANS} scans: save it again")
    try:
        image = Image.open(io.BytesIO(data), formats=(form,))
        _require_size(image, max_pixels)
        image.load()
    except UnidentifiedImageError:
        raise Refusal(400, "undecodable", f"begins like {form} but is not a {form} file") from None
    except Image.DecompressionBombError:
        raise Refusal(413, "pixels", f"more than {max_pixels} pixels: make it smaller") from None
    except Refusal:
        raise
    except Exception as error:  # Pillow's plug-ins raise a dozen types on damaged files
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise Refusal(400, "undecodable", f"a damaged {form} file ({reason})") from None
    return image


def unsuitable(error: MldrError) -> Refusal:
    """The refusal of an image that decodes but that preprocessing does not take."""
    return Refusal(400, "unsuitable", str(error))


def _require_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise Refusal(
            413, "pixels", f"{width} x {height} pixels, at most {max_pixels} are taken: scale it"
        )
    if width < 1 or height < 1:
        raise Refusal(400, "undecodable", "an image without pixels")
