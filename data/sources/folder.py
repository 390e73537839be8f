"""``folder:PATH``: train/ and val/ (or test/) with a folder of picture files per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...bundle.progress import Progress
from ...errors import MldrError
from ..config import DataConfig
from ..images import FileImages
from ..raw import RawDataset, RawSplit, with_held_out

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
_SPLITS = ("train", "val", "test")


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """The pictures under PATH; class names are folder names, sorted.

    A lone val/ is the test split; where test/ is there too, val/ is the validation split.
    """
    path = Path(config.source.partition(":")[2]).expanduser()
    if not path.is_dir():
        raise MldrError(f"data.source names {path}, which is not a folder")
    present = [name for name in _SPLITS if (path / name).is_dir()]
    for needed, found in (("train/", present[:1] == ["train"]), ("val/", len(present) > 1)):
        if not found:
            raise MldrError(f"{path} has no {needed} folder: train/ and val/ hold a folder a class")
    folders = {name: _class_folders(path / name) for name in present}
    classes = tuple(sorted(set().union(*folders.values())))
    splits = {name: _split(path / name, classes) for name in present}
    return with_held_out(classes, splits)


def _class_folders(split: Path) -> set[str]:
    return {path.name for path in split.iterdir() if path.is_dir() and path.name[0] != "."}


def _split(split: Path, classes: tuple[str, ...]) -> RawSplit:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = pictures(split / name)
        files += found
        labels += [label] * len(found)
    return RawSplit(FileImages(split.parent, files), np.array(labels, np.int64), str(split))


def pictures(folder: Path) -> list[Path]:
    """Picture files anywhere under ``folder``, sorted; hidden ones and other files are ignored."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if path.name[0] != "." and path.is_file())
