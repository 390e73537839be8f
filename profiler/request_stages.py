"""One request, from the bytes of image files to logits, with a time stamp between its stages."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from ..bundle.picture import Limits, open_picture
from ..bundle.reader import Bundle
from ..runtimes.runtime import Runtime

STAGES = ("decode", "preprocess", "host_to_device", "compute", "device_to_host")
END_TO_END = "end_to_end"
Marks = tuple[int, int, int, int, int, int]  # ns: begin, then the end of each stage
LIMITS = Limits.of_uploads(1 << 26)  # as the service decodes


@dataclass(frozen=True)
class Requests:
    """Real images as files, taken in turn so that no two calls in a row see the same ones."""

    files: tuple[bytes, ...]
    encoding: str

    def __call__(self, call: int, batch: int) -> list[bytes]:
        """The ``batch`` files of request number ``call``."""
        first, count = call * batch, len(self.files)
        return [self.files[(first + k) % count] for k in range(batch)]


def golden_requests(bundle: Bundle, encoding: str) -> Requests:
    """The bundle's golden images before resizing (after it where the original is not kept)."""
    golden = bundle.golden
    files = []
    for source, pixels in zip(golden.sources, golden.pixels, strict=True):
        buffer = io.BytesIO()
        options = {"quality": 90} if encoding == "JPEG" else {}
        Image.fromarray(source if source.size else pixels).save(buffer, encoding, **options)
        files.append(buffer.getvalue())
    return Requests(tuple(files), encoding)


def request(runtime: Runtime, files: Sequence[bytes], time_ns: Callable[[], int]) -> Marks:
    """Answer one request of ``files``; when it began and when each stage was over.

    Each verb of a runtime returns when the device is done, so the stamps are synchronised.
    """
    begin = time_ns()
    images = [open_picture(file, LIMITS) for file in files]
    decoded = time_ns()
    inputs = runtime.preprocess(images)
    preprocessed = time_ns()
    runtime.feed(inputs)
    fed = time_ns()
    runtime.compute()
    computed = time_ns()
    runtime.fetch()
    return begin, decoded, preprocessed, fed, computed, time_ns()
