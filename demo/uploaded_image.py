"""From an uploaded file to an image, by the HTTP service's rules."""

from __future__ import annotations

import time
from pathlib import Path

from PIL import Image

from ..serve.request_refusal import RequestRefusal
from ..serve.service_config import MiB
from ..serve.uploads import open_image
from .demo_config import DemoConfig


def opened(path: Path, config: DemoConfig) -> tuple[Image.Image, float]:
    """The upright RGB picture in the file and the seconds that decoding took.

    Raises RequestRefusal.
    """
    try:
        size = path.stat().st_size
        if size > config.max_upload:
            raise too_large(size, config.max_upload)
        data = path.read_bytes()
    except OSError:
        message = "the upload is gone from this machine: upload it again"
        raise RequestRefusal(400, "gone", message) from None
    began = time.perf_counter()
    image = open_image(data, config.max_pixels)
    return image, time.perf_counter() - began


def too_large(size: int, limit: int) -> RequestRefusal:
    """The refusal of a file beyond ``limit`` bytes."""
    return RequestRefusal(
        413,
        "body_size",
        f"{size / MiB:.1f} MiB, at most {limit / MiB:g} MiB are taken: scale the picture down",
    )
