"""``cifar100``: 50,000 training and 10,000 test pictures of 32 px in 100 classes.

Read from the Parquet shards ``cifar100-train-*.parquet``, ``cifar100-test.parquet`` and
``cifar100-classes.csv``.
"""

from __future__ import annotations

import csv
from pathlib import Path

from ...bundle.progress import Progress
from ...errors import MldrError, Unavailable
from ..config import DataConfig
from ..raw import RawDataset
from ..root import data_root
from .parquet import read_table


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """CIFAR-100 with its 100 fine classes."""
    root = data_root(config.root)
    shards = sorted(root.glob("cifar100-train-*.parquet"))
    if shards:
        return _from_shards(root, shards)
    raise Unavailable(f"CIFAR-100 is not in {root}")


def _from_shards(root: Path, shards: list[Path]) -> RawDataset:
    classes = class_names(root / "cifar100-classes.csv", "fine_name")
    train, test = (
        read_table(paths, "image", "fine_label").split(classes)
        for paths in (shards, [root / "cifar100-test.parquet"])
    )
    return RawDataset(classes, train, test)


def class_names(path: Path, column: str) -> tuple[str, ...]:
    """The ``column`` of a table of classes, in the order of its rows."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(row[column] for row in csv.DictReader(file))
    except (OSError, KeyError) as error:
        raise MldrError(f"cannot read the class names in {path}: {error}") from error
