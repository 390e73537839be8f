"""The content of a source: class names, and labelled pictures split by split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import MldrError
from .images import Images, PartOf
from .labels import out_of_range
from .split import stratified
from .walk import Stray


@dataclass(frozen=True)
class RawSplit:
    """Pictures and labels of one split, as the source has them."""

    images: Images
    labels: NDArray[np.int64]  # [N]
    origin: str  # where they lie, for messages

    def part(self, rows: NDArray[np.int64]) -> RawSplit:
        """The pictures at ``rows``."""
        return RawSplit(PartOf(self.images, rows), self.labels[rows], self.origin)


@dataclass(frozen=True)
class LeftOut:
    """The strays of one class of one split."""

    split: str
    label: str  # empty: in no class
    taken_pictures: int  # of that class
    strays: tuple[Stray, ...]


@dataclass(frozen=True)
class RawDataset:
    """The splits that exist; ``val`` is None where it is still to be cut from train."""

    classes: tuple[str, ...]
    train: RawSplit
    test: RawSplit
    val: RawSplit | None = None
    left_out: tuple[LeftOut, ...] = ()
    test_cut: float | None = None  # part of train that became the test split

    def splits(self) -> dict[str, RawSplit]:
        """The splits by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def with_held_out(
    classes: tuple[str, ...],
    splits: Mapping[str, RawSplit],
    test_fraction: float,
    left_out: tuple[LeftOut, ...] = (),
) -> RawDataset:
    """A data set of ``splits`` by name (train, and test, val, both or neither).

    A lone val is the test split. Without either, a fixed stratified part of train is.
    """
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    if test is None:
        val, test = None, val
    if test is not None:
        return RawDataset(classes, train, test, val, left_out)
    train_rows, test_rows = stratified(train.labels, test_fraction, seed=0)
    return RawDataset(
        classes,
        train.part(train_rows),
        train.part(test_rows),
        None,
        left_out,
        test_cut=test_fraction,
    )


def check(raw: RawDataset) -> None:
    """Refuse what nothing can be learnt from.

    Raises MldrError for no or one class, an empty split, labels out of range, and classes that
    differ between splits.
    """
    if len(raw.classes) < 2:
        fault = f"only one class, {raw.classes[0]!r}" if raw.classes else "no classes"
        raise MldrError(f"{fault} in {raw.train.origin}: at least two are needed to tell apart")
    for name, split in raw.splits().items():
        if not len(split.labels):
            raise MldrError(f"the {name} split in {split.origin} is empty")
        _check_range(raw.classes, split)
    train_labels = set(np.unique(raw.train.labels).tolist())
    _require_same_classes(
        raw, train_labels, set(range(len(raw.classes))), "train", raw.train.origin
    )
    for name, split in raw.splits().items():
        _require_same_classes(
            raw, train_labels, set(np.unique(split.labels).tolist()), name, split.origin
        )


def _check_range(classes: tuple[str, ...], split: RawSplit) -> None:
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= len(classes)))
    if len(wrong):
        first = int(wrong[0])
        place = split.images.name(first)
        raise MldrError(out_of_range(int(split.labels[first]), place, len(classes), len(wrong)))


def _require_same_classes(
    raw: RawDataset, train_labels: set[int], split_labels: set[int], name: str, origin: str
) -> None:
    if train_labels == split_labels:
        return
    label = min(train_labels ^ split_labels)
    if name == "test" and raw.test_cut is not None:  # the cut leaves single pictures in train
        raise MldrError(
            f"class {raw.classes[label]!r} has one picture ({origin}): at least two are needed to "
            "hold one out for the test split; add pictures or remove the class "
            f"({len(train_labels - split_labels)} such)"
        )
    present_in, absent_from = ("train", name) if label in train_labels else (name, "train")
    if name == "train":
        raise MldrError(
            f"class {raw.classes[label]!r} has no picture in the train split ({origin}): if "
            "it is no class, take it away"
        )
    raise MldrError(
        f"class {raw.classes[label]!r} has pictures in {present_in} but none in {absent_from} "
        f"({origin}): "
        f"the splits must have the same classes ({len(train_labels ^ split_labels)} differ)"
    )
