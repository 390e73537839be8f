"""``csv:FILE``: a table of picture files, their labels and, where it has them, splits."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...bundle.intake import Kind
from ...bundle.progress import Progress
from ...errors import MldrError
from ..data_config import DataConfig
from ..images import FileImages
from ..labels import largest_label, named_labels
from ..naming import SPLIT_COLUMNS, split_called
from ..raw import LeftOut, RawDataset, RawSplit, with_held_out
from ..walk import Stray, look

_PATHS = (
    *("path", "file", "filename", "file_name", "filepath", "file_path"),
    *("image", "image_path", "image_name", "img", "img_path"),
)
_LABELS = ("label", "labels", "class", "class_name", "category", "target", "fine_label")
_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"-?\d{1,18}")
_MISSING = "rows whose file does not exist"


@dataclass(frozen=True)
class CsvRow:
    """One picture as the table has it."""

    line: int
    path: str
    label: str
    split: str  # train, val or test; empty where no column says it


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """The pictures that the rows of FILE name, relative to its folder.

    Labels are names, or numbers that count from 0. Raises MldrError for what is no such table.
    """
    table = Path(config.source.partition(":")[2]).expanduser()
    rows = read_rows(table, config.image_column, config.label_column)
    splits = {row.split or "train" for row in rows}
    if "train" not in splits:
        raise MldrError(f"{table}: no row is of the train split")
    labels, classes = _labelled(table, rows)
    parts: dict[str, RawSplit] = {}
    left_out: list[LeftOut] = []
    for split in (name for name in ("train", "val", "test") if name in splits):
        split_rows = [k for k, row in enumerate(rows) if (row.split or "train") == split]
        parts[split], strays = _split(
            table, split, [rows[k] for k in split_rows], labels[split_rows]
        )
        left_out += _by_class(split, parts[split].labels, strays, classes)
    return with_held_out(classes, parts, config.test_fraction, tuple(left_out))


def read_rows(table: Path, path_column: str | None, label_column: str | None) -> list[CsvRow]:
    """The rows of the file, checked. Raises MldrError naming the line that is wrong."""
    lines = csv.reader(io.StringIO(_text(table), newline=""), delimiter=_delimiter(table))
    rows = []
    try:
        header = [name.strip() for name in next(lines, [])]
        positions = _columns(table, header, path_column, label_column)
        for cells in lines:
            if any(cell.strip() for cell in cells):
                rows.append(_row(table, lines.line_num, cells, len(header), positions))
    except csv.Error as error:
        raise MldrError(f"{table}, line {lines.line_num}: {error}") from error
    if not rows:
        raise MldrError(f"{table} has no rows")
    return rows


def _text(table: Path) -> str:
    if not table.is_file():
        raise MldrError(f"data.source names {table}, which is not a file")
    try:
        data = table.read_bytes()
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # Excel's "Unicode text"
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except OSError as error:
        raise MldrError(f"cannot read {table}: {error.strerror}") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without its mark is UTF-8 with zeros
        raise MldrError(f"{table} is not UTF-8 text: save it as CSV UTF-8")
    return text


def _delimiter(table: Path) -> str:
    """The sign that stands most often in the first line."""
    first = _text(table).partition("\n")[0]
    return max(_DELIMITERS, key=first.count)


def _columns(
    table: Path, header: list[str], path_column: str | None, label_column: str | None
) -> dict[str, int | None]:
    """Positions of path, label and split (None: there is no such column)."""
    folded = [name.casefold().replace(" ", "_") for name in header]

    def find(key: str, configured: str | None, names: tuple[str, ...]) -> int:
        if configured is not None and configured in header:
            return header.index(configured)
        places = [] if configured else [k for k, name in enumerate(folded) if name in names]
        if len(places) == 1:
            return places[0]
        fault = "several columns may be" if places else "no column is"
        raise MldrError(
            f"{table}: {fault} the {key} (its first line has {', '.join(header) or 'nothing'}): "
            f"call one {configured or names[0]}, or name it with data.{key}_column"
        )

    splits = [k for k, name in enumerate(folded) if name in SPLIT_COLUMNS]
    if len(splits) > 1:
        raise MldrError(f"{table}: several columns may be the split: {', '.join(header)}")
    return {
        "path": find("image", path_column, _PATHS),
        "label": find("label", label_column, _LABELS),
        "split": splits[0] if splits else None,
    }


def _row(
    table: Path, line: int, cells: list[str], width: int, positions: dict[str, int | None]
) -> CsvRow:
    if len(cells) != width:
        raise MldrError(
            f"{table}, line {line} has {len(cells)} cells where the first has {width}: put cells "
            "that hold the delimiter into quotes"
        )
    path, label, split = (cells[k].strip() if k is not None else "" for k in positions.values())
    for name, cell in (("path", path), ("label", label)):
        if not cell:
            raise MldrError(f"{table}, line {line} has no {name}")
    if positions["split"] is None:
        return CsvRow(line, path, label, "")
    standard_split = split_called(split)
    if standard_split is None:
        raise MldrError(f"{table}, line {line}: split {split!r} is none of train, val and test")
    return CsvRow(line, path, label, standard_split)


def _labelled(table: Path, rows: list[CsvRow]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Label of every row as a number, and the classes."""
    texts = [row.label for row in rows]
    numbers = all(text.isascii() and text.lstrip("-").isdigit() for text in texts)
    if numbers and not any(len(text) > 1 and text.startswith("0") for text in texts):
        _refuse_odd_numbers(table, rows)
        labels = np.array([int(text) for text in texts], np.int64)
        return labels, tuple(map(str, range(largest_label(labels, str(table)) + 1)))
    names = named_labels(texts, lambda k: f"{table}, line {rows[k].line}")
    classes = tuple(sorted(set(names)))
    position = {name: k for k, name in enumerate(classes)}
    return np.array([position[name] for name in names], np.int64), classes


def _refuse_odd_numbers(table: Path, rows: list[CsvRow]) -> None:
    """Raise MldrError for "--3" and what does not fit 64 bits among numbers."""
    for row in rows:
        if not _NUMBER.fullmatch(row.label):
            raise MldrError(
                f"{table}, line {row.line}: label {row.label[:24]} is no number of a class: "
                "classes are numbered from 0, or have names"
            )


def _split(
    table: Path, split: str, rows: list[CsvRow], labels: np.ndarray
) -> tuple[RawSplit, list[tuple[int, Stray]]]:
    """The pictures of one split, and (label, stray) of the rows that name none."""
    paths: list[Path] = []
    picture_labels: list[int] = []
    strays: list[tuple[int, Stray]] = []
    for row, label in zip(rows, labels.tolist(), strict=True):
        path = _place(table, row.path)
        verdict = look(str(path))
        if verdict.kind is Kind.PICTURE:
            paths.append(path)
            picture_labels.append(label)
        else:
            reason = verdict.reason if _exists(path) else _MISSING
            strays.append((label, Stray(row.path, reason or "files that are no pictures", 1)))
    images = FileImages(table.parent, paths)
    return RawSplit(images, np.array(picture_labels, np.int64), str(table)), strays


def _place(table: Path, text: str) -> Path:
    """The file that a cell names; Windows' separators are read where that file is not there."""
    path = table.parent / text
    return path if _exists(path) else table.parent / text.replace("\\", "/")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _by_class(
    split: str, labels: np.ndarray, strays: list[tuple[int, Stray]], classes: tuple[str, ...]
) -> Iterator[LeftOut]:
    for label, name in enumerate(classes):
        of_class = tuple(stray for number, stray in strays if number == label)
        if of_class:
            yield LeftOut(split, name, int((labels == label).sum()), of_class)
