"""``folder:PATH``: picture files in a folder per class, under train/, val/ and test/ or without."""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...bundle.intake import Kind
from ...bundle.progress import Progress
from ...errors import MldrError
from ..data_config import DataConfig
from ..images import FileImages
from ..naming import class_name, file_split, split_called, splits_in
from ..raw import LeftOut, RawDataset, RawSplit, with_held_out
from ..walk import FolderEntries, Stray, listing, look, survey, under

_LOOSE = "pictures that lie in no class folder"
_PACKED = "files called like a split that has no folder (unpack or remove them)"
_LAYOUT = "train/ and val/ hold a folder a class"


@dataclass
class ClassFolders:
    """One split on disk: the folders of every class, and what lies beside them."""

    place: Path
    folders: dict[str, list[str]] = field(default_factory=dict)  # class -> names as on disk
    strays: list[Stray] = field(default_factory=list)


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """The pictures under PATH; class names are folder names in Unicode NFC, sorted.

    A lone val/ is the test split; where test/ is there too, val/ is the validation split. Without
    either, ``data.test_fraction`` of every class is cut from train. Without any of the three, PATH
    itself holds the class folders.

    Raises MldrError for a layout that leaves open what belongs to which split.
    """
    path = Path(config.source.partition(":")[2]).expanduser()
    if not path.is_dir():
        raise MldrError(f"data.source names {path}, which is not a folder")
    top = listing(path)
    places = _places(path, top)
    parts = {name: _class_folders(place, places) for name, place in places.items()}
    classes = tuple(sorted({name for part in parts.values() for name in part.folders}))
    splits: dict[str, RawSplit] = {}
    left_out = [] if path in places.values() else list(_beside(path, top, places))
    for name, part in parts.items():
        splits[name], strays = _split(path, name, part, classes)
        left_out += strays
    return with_held_out(classes, splits, config.test_fraction, tuple(left_out))


def _places(path: Path, top: FolderEntries) -> dict[str, Path]:
    """Folder of each split; PATH itself is train where nothing is called like a split."""
    named = [(split, name) for name in top.folders if (split := split_called(name))]
    if not named:
        _refuse_hidden_splits(path, top)
        return {"train": path}
    places: dict[str, Path] = {}
    for split, name in named:
        if split in places:
            raise MldrError(
                f"{path} holds {places[split].name}/ and {name}/, which both mean {split}: keep one"
            )
        places[split] = path / name
    if "train" not in places:
        names = (*top.files, *(stray.path for stray in top.strays))
        files = [f" ({name} is none)" for name in names if file_split(name) == "train"]
        raise MldrError(f"{path} has no train/ folder{''.join(files[:1])}: {_LAYOUT}")
    return {split: places[split] for split in ("train", "val", "test") if split in places}


def _beside(path: Path, top: FolderEntries, places: dict[str, Path]) -> Iterator[LeftOut]:
    """What lies beside the folders of splits.

    Raises MldrError for a folder of pictures that does not say its split.
    """
    strays = _around(path, top, places)
    for name in top.folders:
        if split_called(name):
            continue
        surveyed = survey(path / name)
        if surveyed.pictures:
            raise MldrError(
                f"{path / name} holds pictures but does not say its split, beside "
                f"{', '.join(place.name for place in places.values())}: move it into one of them, "
                "or elsewhere"
            )
        strays += [under(name, stray) for stray in surveyed.strays]
    if strays:
        yield LeftOut("train", "", 0, tuple(strays))


def _refuse_hidden_splits(path: Path, top: FolderEntries) -> None:
    """Raise MldrError where class folders look like splits, or hold splits of their own."""
    spoken = {name: splits_in(name) for name in top.folders}
    if len(set().union(*spoken.values())) > 1:
        names = " and ".join(name for name, splits in spoken.items() if splits)
        raise MldrError(
            f"{path}: {names} look like splits but are not called train, val or test: rename "
            "them, or put the class folders into train/"
        )
    for name in top.folders:
        inside = [inner for inner in listing(path / name).folders if split_called(inner)]
        if len({split_called(inner) for inner in inside}) > 1:
            raise MldrError(
                f"{path / name} holds {' and '.join(sorted(inside))}: splits lie above the "
                f"classes, not in them ({_LAYOUT})"
            )


def _class_folders(place: Path, splits: Container[str]) -> ClassFolders:
    """The classes of the folder ``place``; ``splits`` are those that have a folder."""
    inside = listing(place)
    part = ClassFolders(place, strays=_around(place, inside, splits))
    if any(stray.path == "." for stray in inside.strays):
        raise MldrError(f"{place}: {inside.strays[0].reason}")
    for name in inside.folders:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise MldrError(
                f"{place}: the folder {os.fsencode(name)!r} has a name that is not UTF-8, which "
                "cannot be a class's: rename it"
            ) from None
        part.folders.setdefault(class_name(name), []).append(name)
    return part


def _around(place: Path, inside: FolderEntries, splits: Container[str]) -> list[Stray]:
    """What is no folder in ``place``; nobody knows what a split holds that is not unpacked."""
    strays = [*inside.strays, *_loose(place, inside.files)]
    for k, stray in enumerate(strays):
        split = file_split(stray.path)
        if split and split not in splits and not math.isinf(stray.pictures):
            strays[k] = Stray(stray.path, _PACKED, math.inf)
    return strays


def _loose(place: Path, files: list[str]) -> Iterator[Stray]:
    """Files beside the class folders; pictures among them have no class."""
    for name in files:
        verdict = look(f"{place}/{name}")
        if verdict.kind is Kind.PICTURE:
            yield Stray(name, _LOOSE, 1)
        elif verdict.reason:
            yield Stray(name, verdict.reason)


def _split(
    root: Path, split: str, part: ClassFolders, classes: tuple[str, ...]
) -> tuple[RawSplit, list[LeftOut]]:
    """The pictures of one split, and what was left out of it by class."""
    files: list[str] = []
    labels: list[int] = []
    left_out = [_left_out(root, split, "", part.place, 0, part.strays)]
    for label, name in enumerate(classes):
        before = len(files)
        strays: list[Stray] = []
        for folder in sorted(part.folders.get(name, [])):
            place = part.place / folder
            surveyed = survey(place)
            files += [f"{place}/{picture}" for picture in surveyed.pictures]
            strays += [under(folder, stray) for stray in surveyed.strays]
        pictures = len(files) - before
        labels += [label] * pictures
        left_out.append(_left_out(root, split, name, part.place, pictures, strays))
    images = FileImages(root, files)
    return (
        RawSplit(images, np.array(labels, np.int64), str(part.place)),
        [entry for entry in left_out if entry.strays],
    )


def _left_out(
    root: Path, split: str, label: str, place: Path, pictures: int, strays: list[Stray]
) -> LeftOut:
    """The strays with their paths from the data set's folder."""
    inside = place.relative_to(root).as_posix()
    return LeftOut(split, label, pictures, tuple(under(inside, stray) for stray in strays))
