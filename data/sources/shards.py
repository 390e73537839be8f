"""Which files of a folder are Parquet shards, and of which split each is."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import MldrError
from ..naming import ARCHIVE, file_split, hidden_splits, split_called, splits_in
from ..omissions import printable
from ..raw import LeftOut
from ..walk import Stray, walk

_SUFFIXES = (".parquet", ".parq", ".pq")
_UNFINISHED = (".tmp", ".icloud", ".dvc")
_NUMBERED = re.compile(r"(?P<series>.*?)(?P<number>\d+)-of-(?P<total>\d+)\.\w+")
_REMEDY = "name files train*, val* or test*"


@dataclass(frozen=True)
class Shards:
    """Files by split, and what lies beside them and was not taken."""

    by_split: dict[str, list[Path]]
    left_out: tuple[LeftOut, ...] = ()


def shards_by_split(path: Path) -> Shards:
    """The shards in the file or folder ``path``; a file is train, whatever it is called.

    Raises MldrError for a shard that cannot be read and for names that leave open which split a
    shard is.
    """
    if path.is_file():
        return Shards({"train": [path]})
    if not path.is_dir():
        raise MldrError(f"data.source names {path}, which does not exist")
    walked = walk(path)
    for stray in walked.strays:
        if stray.pictures or _is_shard(stray.path):
            raise MldrError(f"{path}: {printable(stray.path)} is one of the {stray.reason}")
    files = [name for name in walked.files if _is_shard(name)]
    _refuse_unfinished(path, walked.files)
    hidden = [name for name in files if _is_hidden(name)]
    files = [name for name in files if not _is_hidden(name)]
    if not files:
        raise MldrError(f"no .parquet file lies in {path}")
    strays = (*walked.strays, *(Stray(name, "shards that a program hides") for name in hidden))
    _refuse_missing(path, files)
    by_split = _by_split(path, files)
    _refuse_packed(path, walked.files, by_split)
    return Shards(by_split, tuple(_left_out(strays)))


def _left_out(strays: tuple[Stray, ...]) -> Iterator[LeftOut]:
    if strays:
        yield LeftOut("train", "", 0, strays)


def _by_split(path: Path, files: list[str]) -> dict[str, list[Path]]:
    splits = {name: _split_of(path, name) for name in files}
    silent = [name for name, split in splits.items() if split is None]
    if len(silent) == len(files):
        if unclear := hidden_splits(files):
            raise MldrError(f"{path}: {' and '.join(unclear)} do not say their splits: {_REMEDY}")
        return {"train": [path / name for name in files]}
    if silent or "train" not in splits.values():
        odd = Path(silent[0]).name if silent else "train*.parquet"
        wrong = "does not say its split" if silent else "is missing"
        raise MldrError(f"{path}: {odd} {wrong}: {_REMEDY}")
    return {
        split: [path / name for name in files if splits[name] == split]
        for split in dict.fromkeys(splits.values())
        if split is not None
    }


def _split_of(path: Path, name: str) -> str | None:
    """The split that the file's own name says, else the nearest folder's within ``path``."""
    parts = PurePosixPath(name)
    named_splits: set[str] = set()
    for part in (parts.stem, *reversed(parts.parent.parts)):
        named_splits = named_splits or splits_in(part)
    folders = {split for part in parts.parent.parts if (split := split_called(part))}
    if len(named_splits) > 1 or len(named_splits | folders) > 1:
        raise MldrError(
            f"{path}: {name} speaks of {' and '.join(sorted(named_splits | folders))}: {_REMEDY}"
        )
    return next(iter(named_splits), None)


def _is_shard(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def _is_hidden(name: str) -> bool:
    """Whether a part of the path begins with "_": Spark's and Arrow's sign of what is no data."""
    return any(part.startswith("_") for part in PurePosixPath(name).parts)


def _refuse_missing(path: Path, files: list[str]) -> None:
    """Raise MldrError where "train-00000-of-00002" is there and its second is not."""
    numbers: dict[tuple[str, int], set[int]] = {}
    for name in files:
        if (match := _NUMBERED.fullmatch(name)) is not None:
            key = match["series"], int(match["total"])
            numbers.setdefault(key, set()).add(int(match["number"]))
    for (series, total), present in numbers.items():
        missing = sorted({*range(total)} - present)
        if missing and max(present) < total:
            raise MldrError(
                f"{path}: {len(missing)} of the {total} shards {series}* are not there, first "
                f"number {missing[0]}: fetch them, or rename those that are"
            )


def _refuse_unfinished(path: Path, files: list[str]) -> None:
    for name in files:
        stem = ARCHIVE.sub("", name)
        if name.lower().endswith(_UNFINISHED):
            stem = name.rpartition(".")[0].lstrip(".")
        if stem not in files and _is_shard(stem):
            raise MldrError(f"{path}: {name} is a shard that is not here yet: fetch or unpack it")


def _refuse_packed(path: Path, files: list[str], by_split: Container[str]) -> None:
    """Raise MldrError for a file that is called like a split of which no shard is there."""
    for name in files:
        split = file_split(PurePosixPath(name).name)
        if split and split not in by_split:
            raise MldrError(
                f"{path}: {name} is called like the {split} split, of which there is no shard: "
                "unpack or remove it"
            )
