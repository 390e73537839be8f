"""``cifar100``: 50,000 training and 10,000 test pictures of 32 px in 100 classes.

Read from the official archive's folder ``cifar-100-python``, else from the Parquet shards
``cifar100-train-*.parquet``, ``cifar100-test.parquet`` and ``cifar100-classes.csv``, else fetched
(A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).
"""

from __future__ import annotations

from ...bundle.progress import Progress
from ..data_config import DataConfig
from ..fetch import Archive
from ..raw import RawDataset
from . import cifar_archive
from .published import PublishedShards, load_published

ARCHIVE = Archive(
    title="CIFAR-100",
    folder="cifar-100-python",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
)
SHARDS = PublishedShards("cifar100", held_out="test", label="fine_label", title="fine_name")


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """CIFAR-100 with its 100 fine classes."""
    return load_published(ARCHIVE, SHARDS, cifar_archive.load, config, progress)
