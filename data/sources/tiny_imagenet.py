"""``tiny-imagenet``: 200 classes at 64 px; its labelled val split is the test split here.

Read from the official archive's folder ``tiny-imagenet-200``, else from the Parquet shards
``tiny-imagenet-train-*.parquet``, ``tiny-imagenet-val.parquet`` and
``tiny-imagenet-classes.csv``, else fetched (Y. Le and X. Yang, "Tiny ImageNet Visual Recognition
Challenge", 2015; for research and education only).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...bundle.progress import Progress
from ...bundle.wording import cause
from ...errors import MldrError
from ..data_config import DataConfig
from ..fetch import Archive
from ..images import FileImages
from ..raw import RawDataset, RawSplit
from ..walk import survey
from .published import PublishedShards, load_published

ARCHIVE = Archive(
    title="Tiny-ImageNet",
    folder="tiny-imagenet-200",
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
)
SHARDS = PublishedShards("tiny-imagenet", held_out="val", label="label", title="words")


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """Tiny-ImageNet; classes in the order of their WordNet ids, named by their first synonym."""
    return load_published(ARCHIVE, SHARDS, _from_archive, config, progress, titles=_titles)


def _from_archive(folder: Path) -> RawDataset:
    try:
        ids = sorted((folder / "wnids.txt").read_text(encoding="utf-8").split())
        words = dict(
            line.split("\t")
            for line in (folder / "words.txt").read_text(encoding="utf-8").splitlines()
        )
        notes = (folder / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
        classes = _titles(tuple(words[wnid].strip() for wnid in ids))
        held_out = [line.split("\t")[:2] for line in notes]
    except OSError as error:
        raise MldrError(
            f"{folder} is not the official Tiny-ImageNet folder: {error.filename}: {cause(error)}"
        ) from error
    except (ValueError, KeyError) as error:
        raise MldrError(f"{folder} is not the official Tiny-ImageNet folder: {error}") from error
    label = {wnid: index for index, wnid in enumerate(ids)}
    places = [folder / "train" / wnid for wnid in ids]
    train = [
        (place / path, label[place.name]) for place in places for path in survey(place).pictures
    ]
    val = folder / "val" / "images"
    test = [(val / name, label.get(wnid, -1)) for name, wnid in held_out]
    return RawDataset(classes, _split(folder, train), _split(folder, test))


def _split(folder: Path, labelled: list[tuple[Path, int]]) -> RawSplit:
    paths = [path for path, _ in labelled]
    labels = np.array([label for _, label in labelled], np.int64)
    return RawSplit(FileImages(folder, paths), labels, str(folder))


def _titles(words: tuple[str, ...]) -> tuple[str, ...]:
    """The first of each class's synonyms, or all of them where firsts coincide."""
    first = tuple(entry.partition(",")[0] for entry in words)
    return first if len(set(first)) == len(first) else words
