"""A published data set, as its official archive or as Parquet shards of the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...bundle.progress import Progress
from ..data_config import DataConfig
from ..fetch import Archive, locate
from ..raw import RawDataset
from ..root import data_root
from .parquet import class_names, read_table


@dataclass(frozen=True)
class PublishedShards:
    """``NAME-train-*.parquet``, ``NAME-HELD_OUT.parquet`` and ``NAME-classes.csv``."""

    name: str
    held_out: str
    label: str  # column of the labels; the pictures' is `image`
    title: str  # column of the class names

    def train(self, root: Path) -> list[Path]:
        """The training shards that lie in ``root``."""
        return sorted(root.glob(f"{self.name}-train-*.parquet"))

    def classes(self, root: Path) -> tuple[str, ...]:
        """The class names as the table has them."""
        return class_names(root / f"{self.name}-classes.csv", self.title)

    def read(self, root: Path, classes: tuple[str, ...]) -> RawDataset:
        """Both splits, their classes called ``classes``."""
        train, test = (
            read_table(paths, "image", self.label).split(classes)
            for paths in (self.train(root), [root / f"{self.name}-{self.held_out}.parquet"])
        )
        return RawDataset(classes, train, test)


def load_published(
    archive: Archive,
    shards: PublishedShards,
    from_folder: Callable[[Path], RawDataset],
    config: DataConfig,
    progress: Progress,
    titles: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda names: names,
) -> RawDataset:
    """From the archive's folder where it lies, else from shards, else from the archive fetched.

    ``titles`` makes the class names of those in the shards' table.
    """
    root = data_root(config.root)
    if shards.train(root) and not (root / archive.folder).is_dir():
        return shards.read(root, titles(shards.classes(root)))
    return from_folder(locate(archive, root, config, progress))
