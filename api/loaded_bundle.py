"""A bundle's student in Python: pictures in, classes with calibrated probabilities out; no torch.

n pictures, C classes, h x w any size.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
from PIL import Image

from ..bundle.picture import open_picture
from ..bundle.preprocess import Floats, Pixels, normalise, to_pixels
from ..bundle.progress import Progress
from ..bundle.reader import Bundle, open_bundle
from ..bundle.temperature import softmax
from ..errors import MldrError
from ..pipeline.validation import validated
from ..runtimes.runtime import Runtime, RuntimeOptions
from ..runtimes.runtime_choice import AUTO, open_runtime

Picture = str | os.PathLike[str] | bytes | Image.Image | Pixels


@dataclass(frozen=True)
class LabelProbability:
    """One class and how probable it is, 0 to 1, calibrated."""

    label: str
    index: int
    probability: float

    def __str__(self) -> str:
        return f"{self.label} {100 * self.probability:.1f} %"


@dataclass(frozen=True)
class PictureClasses:
    """The most probable classes of one picture, best first. Prints itself."""

    predictions: tuple[LabelProbability, ...]

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.predictions[0].label

    @property
    def probability(self) -> float:
        """How probable it is, 0 to 1."""
        return self.predictions[0].probability

    def __str__(self) -> str:
        return ", ".join(map(str, self.predictions))


class Classifier:
    """A loaded student. Close it, or use it in a ``with`` statement; threads take turns.

    ``bundle`` and ``runtime`` say what it is and what computes it.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle, self.runtime = bundle, runtime
        self._turn = threading.Lock()
        runtime.load()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        manifest, file = self.bundle.manifest, self.runtime.file
        return f"<Classifier of {len(manifest.labels)} classes: {file} in {self.runtime.name}>"

    @property
    def labels(self) -> list[str]:
        """Class names in the order of the logits."""
        return self.bundle.manifest.labels

    def close(self) -> None:
        """Give back what the runtime holds; safe to call twice."""
        with self._turn:
            self.runtime.unload()

    @overload
    def classify(self, picture: Picture, top: int = 5) -> PictureClasses: ...

    @overload
    def classify(
        self, picture: list[Picture] | tuple[Picture, ...], top: int = 5
    ) -> list[PictureClasses]: ...

    def classify(self, picture: Any, top: int = 5) -> PictureClasses | list[PictureClasses]:
        """The ``top`` classes of a picture; of several pictures, a list in their order.

        A picture is a path, a file's bytes, a PIL image, or an upright RGB uint8 array [h, w, 3];
        several are a list or tuple of these, or one array [n, h, w, 3]. Gives PictureClasses.
        Raises MldrError for what is no picture, and says which.
        """
        if top < 1:
            raise MldrError(f"top={top}: at least 1 class is answered")
        several = _several(picture)
        pictures = list(picture) if several else [picture]
        answers = [self._best(row, top) for row in self._probabilities(pictures)]
        return answers if several else answers[0]

    def logits(self, inputs: Floats) -> Floats:
        """Logits [n, C] of inputs [n, 3, H, W] that are preprocessed already; any n."""
        size = self.bundle.manifest.max_batch
        with self._turn:
            parts = [self.runtime(inputs[k : k + size]) for k in range(0, len(inputs), size)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.labels)), np.float32)

    def _probabilities(self, pictures: Sequence[Any]) -> Iterator[Any]:
        """Shares [C] of each; decoded a batch at a time, so that any number fits into memory."""
        manifest, size = self.bundle.manifest, self.bundle.manifest.max_batch
        for start in range(0, len(pictures), size):
            part = pictures[start : start + size]
            pixels = [self._pixels(start + k, image) for k, image in enumerate(part)]
            logits = self.logits(normalise(np.stack(pixels), manifest.preprocessing))
            finite = np.isfinite(logits).all(axis=1)
            if not finite.all():
                number = start + int(finite.argmin())
                raise MldrError(f"the model gives no finite answer to picture {number}")
            yield from softmax(logits, manifest.temperature).astype(np.float32)

    def _pixels(self, number: int, picture: Any) -> Pixels:
        """Picture ``number`` as the network takes it, [H, W, 3]. Raises MldrError, with number."""
        try:
            return to_pixels(_opened(picture), self.bundle.manifest.preprocessing)
        except MldrError as error:
            raise MldrError(f"picture {number}: {error}") from None
        except (OSError, SyntaxError, ValueError) as error:  # Pillow, of an image opened lazily
            raise MldrError(f"picture {number} cannot be decoded: {error}") from None

    def _best(self, shares: Any, top: int) -> PictureClasses:
        order = (-shares).argsort(kind="stable")[:top]
        labels = self.labels
        return PictureClasses(
            tuple(LabelProbability(labels[k], int(k), float(shares[k])) for k in order)
        )


def load(
    bundle: str | os.PathLike[str],
    *,
    runtime: str = AUTO,
    artifact: str | None = None,
    threads: int = 0,
    allow_failed: bool = False,
    progress: Progress | None = None,
) -> Classifier:
    """The student of the folder ``bundle``, verified and loaded, on the fastest runtime here.

    ``runtime`` and ``artifact`` (a precision or a file) settle the choice as for `serve`;
    ``threads`` 0 is one per usable core. Raises MldrError for a bundle that does not hold, and
    Unavailable where this machine lacks the runtime.
    """
    options = validated(RuntimeOptions, {"threads": threads}, "load")
    opened = open_bundle(Path(bundle), allow_failed=allow_failed)
    return Classifier(opened, open_runtime(opened, runtime, artifact, options, progress))


def _several(picture: Any) -> bool:
    return isinstance(picture, list | tuple) or (
        isinstance(picture, np.ndarray) and picture.ndim == 4
    )


def _opened(picture: Any) -> Image.Image | Pixels:
    """Something that ``to_pixels`` takes. Raises MldrError."""
    if isinstance(picture, bytes | bytearray | memoryview):
        return open_picture(bytes(picture))
    if isinstance(picture, str | os.PathLike):
        return _file(Path(picture))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise MldrError(
                f"an array of {picture.dtype} {list(picture.shape)} is no picture: give uint8 RGB "
                "[h, w, 3], 0 to 255, or several as [n, h, w, 3]"
            )
        if not picture.size:
            raise MldrError(f"an array {list(picture.shape)} is a picture without pixels")
        return picture
    if isinstance(picture, Image.Image):
        return picture
    raise MldrError(
        f"{type(picture).__name__} is no picture: give a path, bytes, a PIL image or an array"
    )


def _file(path: Path) -> Image.Image:
    try:
        return open_picture(path.read_bytes())
    except OSError as error:
        raise MldrError(f"{path} cannot be read: {error.strerror or error}") from None
    except MldrError as error:
        raise MldrError(f"{path}: {error}") from None
