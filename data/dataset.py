"""From a data config to labelled splits that training, evaluation and export can use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..bundle.data_report import DataReport
from ..bundle.progress import Progress, Silent
from .data_config import DataConfig
from .omissions import omissions, refuse_loss
from .raw import RawDataset, RawSplit, check
from .reading import Decoded, check_readable, read_resident
from .sources.source_registry import SOURCES
from .split import Split, stratified
from .twins import find_twins, refuse_leak

Rgb = tuple[float, float, float]
_BLOCK = 1000  # pictures of a resident split that are counted at once
_STATISTICS_SAMPLE = 2000  # pictures that mean and std of a streamed train split are taken from


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test pictures of one data set, and what identifies them."""

    source: str
    classes: tuple[str, ...]
    train: Split
    val: Split  # empty when data.val_fraction is 0
    test: Split
    fingerprint: str  # sha256 over class names, labels and images, before the validation cut
    report: DataReport = field(default_factory=DataReport)

    @property
    def mean(self) -> Rgb:
        """Mean of red, green and blue over train, of pixels divided by 255."""
        return self._statistics[0]

    @property
    def std(self) -> Rgb:
        """Population standard deviation of red, green and blue over train, of pixels / 255."""
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[Rgb, Rgb]:
        return _statistics(self.train)


def load_dataset(config: DataConfig, *, progress: Progress | None = None) -> Dataset:
    """The data set that ``config`` names, read, checked and split.

    Raises MldrError, in one line, for a missing path, no classes or one, classes that differ
    between splits, unreadable images and labels out of range; Unavailable when the set is not on
    this machine and cannot be fetched.
    """
    progress = progress or Silent()
    raw = SOURCES[config.source.partition(":")[0]](config, progress)
    report = DataReport(
        omissions=omissions(raw.left_out), test_cut=raw.test_cut, test_images=len(raw.test.labels)
    )
    _tell(report, progress)
    pictures = sum(len(split.labels) for split in raw.splits().values())
    refuse_loss(raw.left_out, pictures, config.skip_share, progress)
    check(raw)
    decoded = _decoded(raw, config, progress)
    splits = _splits(raw, decoded)
    report = _with_twins(report, splits, decoded, config, progress)
    train, val = splits["train"], splits.get("val")
    if val is None:
        train_rows, val_rows = stratified(train.labels, config.val_fraction, config.split_seed)
        train, val = train.subset(train_rows), train.subset(val_rows)
    return Dataset(
        config.source, raw.classes, train, val, splits["test"], _fingerprint(raw), report
    )


def fingerprint(config: DataConfig) -> str:
    """The `Dataset.fingerprint` of the data as they are now; no picture is decoded.

    Raises MldrError and Unavailable for data that are not there, as `load_dataset` does.
    """
    return _fingerprint(SOURCES[config.source.partition(":")[0]](config, Silent()))


def _tell(report: DataReport, progress: Progress) -> None:
    for line in report.lines():
        progress.note(f"data: {line}")


def _decoded(raw: RawDataset, config: DataConfig, progress: Progress) -> Decoded | None:
    """All pictures, resident if they have one size and fit; None: streamed and not looked at."""
    decoded = read_resident(raw.splits(), config, progress)
    if decoded is None and config.check_images:
        return check_readable(raw.splits(), config, progress)
    return decoded


def _splits(raw: RawDataset, decoded: Decoded | None) -> dict[str, Split]:
    pixels = decoded.pixels if decoded else None
    return {
        name: _split(part, None if pixels is None else pixels[name])
        for name, part in raw.splits().items()
    }


def _with_twins(
    report: DataReport,
    splits: dict[str, Split],
    decoded: Decoded | None,
    config: DataConfig,
    progress: Progress,
) -> DataReport:
    """The report with the counts of pictures that stand twice, which the progress notes.

    Raises MldrError for too large a leak.
    """
    if decoded is None:
        return report
    learnt = [(split, decoded.hashes[name]) for name, split in splits.items() if name != "test"]
    test = splits["test"]
    twins = find_twins(learnt, (test, decoded.hashes["test"]), cut=report.test_cut is not None)
    refuse_leak(twins, len(test), config.leak_share, progress)
    twin_report = DataReport(
        test_images=len(test), leaked=twins.leaked, contradicted=twins.contradicted
    )
    _tell(twin_report, progress)
    return report.model_copy(
        update={"leaked": twin_report.leaked, "contradicted": twin_report.contradicted}
    )


def _split(raw: RawSplit, pixels: NDArray[np.uint8] | None) -> Split:
    return Split(raw.images, np.arange(len(raw.labels)), raw.labels, pixels)


def _fingerprint(raw: RawDataset) -> str:
    digest = hashlib.sha256(json.dumps(raw.classes).encode())
    for name, split in raw.splits().items():
        digest.update(f"{name} {len(split.labels)}\n".encode())
        digest.update(split.labels.astype("<i8").tobytes())
        split.images.feed(digest)
    return digest.hexdigest()


def _statistics(split: Split) -> tuple[Rgb, Rgb]:
    """(mean, std) per channel: exact when resident, else of a fixed sample of whole pictures."""
    if split.resident is not None:
        starts = range(0, len(split), _BLOCK)
        histograms = [_histogram(split.block(start, start + _BLOCK)) for start in starts]
    else:
        count = min(len(split), _STATISTICS_SAMPLE)
        sample = np.random.default_rng(0).choice(len(split), count, replace=False)
        images = (np.asarray(split.image(int(index))) for index in np.sort(sample))
        histograms = [_histogram(image) / image.size for image in images]
    counts = np.sum(histograms, axis=0)
    weights = counts / counts.sum(axis=1, keepdims=True)
    levels = np.arange(256) / 255
    mean = weights @ levels
    std = np.sqrt(weights @ levels**2 - mean**2)
    return _rgb(mean), _rgb(std)


def _histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How often each level occurs in each channel: [3, 256]."""
    flat = pixels.reshape(-1, 3)
    return np.stack([np.bincount(flat[:, c], minlength=256) for c in range(3)]).astype(np.float64)


def _rgb(values: NDArray[np.float64]) -> Rgb:
    return float(values[0]), float(values[1]), float(values[2])
