"""``cifar100``: 50,000 training and 10,000 test pictures of 32 px in 100 classes.

Read from the official archive's folder ``cifar-100-python``, else from the Parquet shards
``cifar100-train-*.parquet``, ``cifar100-test.parquet`` and ``cifar100-classes.csv``, else fetched
(A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).
"""

from __future__ import annotations

from pathlib import Path

from ...bundle.progress import Progress
from ..config import DataConfig
from ..fetch import Archive, locate
from ..raw import RawDataset
from ..root import data_root
from . import cifar_archive
from .parquet import class_names, read_table

ARCHIVE = Archive(
    title="CIFAR-100",
    folder="cifar-100-python",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
)


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """CIFAR-100 with its 100 fine classes."""
    root = data_root(config.root)
    shards = sorted(root.glob("cifar100-train-*.parquet"))
    if shards and not (root / ARCHIVE.folder).is_dir():
        return _from_shards(root, shards)
    return cifar_archive.load(locate(ARCHIVE, root, config, progress))


def _from_shards(root: Path, shards: list[Path]) -> RawDataset:
    classes = class_names(root / "cifar100-classes.csv", "fine_name")
    train, test = (
        read_table(paths, "image", "fine_label").split(classes)
        for paths in (shards, [root / "cifar100-test.parquet"])
    )
    return RawDataset(classes, train, test)
