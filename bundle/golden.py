"""A few real test images as fed, with the logits they must give: ``golden.npz``.

Arrays (K images, C classes): ``index`` int64 [K] into the test split, ``label`` int64 [K],
``pixels`` uint8 [K, H, W, 3] after resize and crop, ``inputs`` float32 [K, 3, H, W] as fed,
``logits`` float32 [K, C] of the PyTorch student, ``classes`` text [C] as the data set names them,
``probes`` float32 [2, 3, H, W] (below), and ``source_k`` uint8 [h, w, 3], the upright image before
the resize ([0, 0, 3] when it has more than a million pixels).

With the sources in it, a bundle proves its own preprocessing bit for bit wherever it is opened:
another mean, channel order, crop or resize filter in the manifest cannot go unnoticed. Grey images
say nothing about the channel order, and images that have the input's size nothing about the resize,
so two coloured pictures of other shapes are made from the first golden pixels, and what they come
to as inputs is kept as ``probes``.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MldrError
from .atomic import write_bytes
from .parity import ParityResult
from .preprocess import Floats, Pixels, Preprocessing, normalise, preprocess, to_pixels
from .wording import cause

FILE = "golden.npz"
LARGEST_SOURCE = 1 << 20  # pixels
_ARRAYS = ("index", "label", "pixels", "inputs", "logits", "probes")
_FP32 = 1e-3  # logits of the same fp32 weights in another library or on another processor
_OTHER_ROUNDING = 2  # times what the whole split needed: see golden_limit


@dataclass(frozen=True)
class Golden:
    """The arrays of the module's docstring; ``sources`` holds ``source_0`` to ``source_K-1``."""

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    pixels: Pixels
    inputs: Floats
    logits: Floats
    classes: tuple[str, ...]
    probes: Floats
    sources: tuple[Pixels, ...]

    def __len__(self) -> int:
        return len(self.index)

    def difference(self, logits: Floats) -> float:
        """Largest absolute difference of ``logits`` [K, C] from the stored ones.

        Infinity for another shape and for anything that is not finite.
        """
        if logits.shape != self.logits.shape or not np.isfinite(logits).all():
            return float("inf")
        return float(np.abs(logits - self.logits).max(initial=0.0))


def golden_limit(parity: ParityResult | None) -> float:
    """How far logits of the golden images may be from the stored ones, on any machine.

    ``parity`` is what was recorded of the artifact; None: of the weights themselves, in PyTorch.
    A gate that limits logits says it. Where it does not (16 bits, int8, engines), the proof does:
    the golden images are of its split, so on the proving machine they stay within what the whole
    split needed, which is the error of rounding to that precision. Another processor or library
    rounds at other places, and so differs from the proving one by about as much again: twice what
    was needed, by the triangle inequality. What fp32 libraries differ by is allowed in any case.
    """
    if parity is None:
        return _FP32
    if parity.gate.max_dlogit is not None:
        return parity.gate.max_dlogit
    return max(_OTHER_ROUNDING * (parity.needed.max_dlogit or 0.0), _FP32)


def make_golden(
    sources: list[Pixels],
    spec: Preprocessing,
    run: Callable[[Floats], Floats],
    *,
    index: NDArray[np.int64],
    label: NDArray[np.int64],
    classes: Sequence[str],
) -> Golden:
    """Golden images from upright RGB ``sources``; ``run`` gives the logits of inputs as fed."""
    pixels = np.stack([to_pixels(source, spec) for source in sources])
    inputs = normalise(pixels, spec)
    omitted = np.empty((0, 0, 3), np.uint8)
    small = (s if s.shape[0] * s.shape[1] <= LARGEST_SOURCE else omitted for s in sources)
    probes = preprocess(probe_pictures(pixels), spec)
    return Golden(index, label, pixels, inputs, run(inputs), tuple(classes), probes, tuple(small))


def save_golden(path: Path, golden: Golden) -> None:
    """Write ``golden`` as a compressed archive of plain arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        index=golden.index,
        label=golden.label,
        pixels=golden.pixels,
        inputs=golden.inputs,
        logits=golden.logits,
        classes=np.array(golden.classes, np.str_),
        probes=golden.probes,
        **{f"source_{k}": source for k, source in enumerate(golden.sources)},
    )
    write_bytes(path, buffer.getvalue())


def load_golden(path: Path) -> Golden:
    """Read ``path``. Raises MldrError when it is missing, damaged or not of this layout."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        golden = Golden(
            **{name: arrays[name] for name in _ARRAYS},
            classes=tuple(map(str, arrays["classes"])),
            sources=tuple(arrays[f"source_{k}"] for k in range(len(arrays["index"]))),
        )
    except FileNotFoundError:
        raise MldrError(f"{path} is missing: export the bundle again") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MldrError(f"{path} is damaged ({cause(error)}): export the bundle again") from None
    counts = {len(golden.label), len(golden.pixels), len(golden.inputs), len(golden.logits)}
    if counts != {len(golden)}:
        raise MldrError(f"{path} is damaged (arrays of different lengths): export it again")
    return golden


def verify_preprocessing(golden: Golden, spec: Preprocessing, path: Path) -> None:
    """Preprocess the golden images again and compare every bit. Raises MldrError on the first."""
    for k, source in enumerate(golden.sources):
        if source.size and not np.array_equal(to_pixels(source, spec), golden.pixels[k]):
            raise MldrError(
                f"{path}: golden image {k} is resized or cropped differently than at export: the "
                "manifest's preprocessing or this Pillow is not the one it was proven with"
            )
    inputs = normalise(golden.pixels, spec)
    if inputs.shape != golden.inputs.shape or inputs.tobytes() != golden.inputs.tobytes():
        raise MldrError(
            f"{path}: the golden inputs do not follow from the manifest's mean, std and channel "
            "order: export the bundle again"
        )
    pictures = probe_pictures(golden.pixels)
    if preprocess(pictures, spec).tobytes() != golden.probes.tobytes():
        height, width, _ = pictures[0].shape
        raise MldrError(
            f"{path}: a picture of {height} x {width} pixels is fed differently than at export: "
            "the manifest's resize, crop, filter or channel order is not the one it was proven with"
        )


def verify_classes(golden: Golden, labels: Sequence[str], path: Path) -> None:
    """Compare the manifest's ``labels`` with the data set's. Raises MldrError on the first."""
    if tuple(labels) == golden.classes:
        return
    if len(labels) != len(golden.classes):
        difference = f"{len(labels)} labels for {len(golden.classes)} classes"
    else:
        index = next(k for k, name in enumerate(golden.classes) if labels[k] != name)
        difference = (
            f"label {index} is {labels[index]!r} where the data set had {golden.classes[index]!r}"
        )
    raise MldrError(
        f"{path}: the manifest's labels are not the classes of the export ({difference}): restore "
        "manifest.json or export the bundle again"
    )


def probe_pictures(pixels: Pixels) -> list[Pixels]:
    """A tall picture larger than the input and a wide, smaller one, both in false colours."""
    _, height, width, _ = pixels.shape
    larger = pixels[0].repeat(3, axis=0).repeat(2, axis=1)
    smaller = pixels[1][: max(height // 2, 1), : max(3 * width // 4, 1)]
    return [
        np.stack([image[..., 0], 255 - image[..., 1], image[..., 2] // 2], axis=-1)
        for image in (larger, smaller)
    ]
