"""Parquet tables with a column of encoded images and a column of labels.

Hugging Face's layout is understood: ``{bytes, path}`` structs, and class names in the schema's
metadata. The encoded bytes of all rows are kept in memory.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle.progress import Progress
from ...errors import MldrError
from ..config import DataConfig
from ..images import EncodedImages
from ..raw import RawDataset, RawSplit, with_held_out

Labels = NDArray[Any]  # int64, or object: names
LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_SPLIT_WORDS = {"train": "train", "test": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev"), "val"
)


@dataclass(frozen=True)
class Table:
    """One split: Arrow columns as read, rows of all shards in order."""

    images: EncodedImages
    labels: Labels  # [N]
    names: tuple[str, ...] | None  # class names that the schema declares
    origin: str

    def split(self, classes: Sequence[str]) -> RawSplit:
        """The rows as pictures and indices into ``classes``."""
        return RawSplit(self.images, self._indices(classes), self.origin)

    def _indices(self, classes: Sequence[str]) -> NDArray[np.int64]:
        if self.labels.dtype != object:
            return self.labels
        position = {name: index for index, name in enumerate(classes)}
        return np.array([position.get(name, -1) for name in self.labels], np.int64)


def read_table(paths: Sequence[Path], image_column: str | None, label_column: str | None) -> Table:
    """Read the shards ``paths`` as one table.

    Raises MldrError for a damaged file, a missing or unfit column and a row without a label.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables: list[Any] = []
    for path in paths:
        try:
            if not tables:
                schema = pq.read_schema(path)
                image = _image_column(schema, image_column, path)
                label = _label_column(schema, label_column, path)
            tables.append(pq.read_table(path, columns=[image, label]).replace_schema_metadata())
            table = pa.concat_tables(tables)
        except (OSError, pa.ArrowException) as error:
            raise MldrError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    shards = [(path.name, part.num_rows) for path, part in zip(paths, tables, strict=True)]
    images = EncodedImages(_encoded(table[image]), shards)
    origin = str(paths[0] if len(paths) == 1 else paths[0].parent)
    return Table(images, _labels(table[label], images), _class_names(schema, label), origin)


def class_names(path: Path, column: str) -> tuple[str, ...]:
    """The ``column`` of a CSV table of classes that lies beside shards, in its order."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(row[column] for row in csv.DictReader(file))
    except OSError as error:
        raise MldrError(f"cannot read the class names in {path}: {error.strerror}") from error
    except KeyError as error:
        raise MldrError(f"{path} has no column {column}, which names the classes") from error


def _image_column(schema: Any, configured: str | None, path: Path) -> str:
    fit = [str(field.name) for field in schema if _holds_images(field.type)]
    if configured is None:
        if len(fit) == 1:
            return fit[0]
        found = (
            f"several columns may hold images ({', '.join(fit)})"
            if fit
            else (f"no column holds encoded images (it has {', '.join(schema.names)})")
        )
        raise MldrError(f"{path}: {found}: name one with data.image_column")
    if configured not in fit:
        raise MldrError(
            f"{path}: data.image_column names {configured!r}, but columns of encoded images are: "
            f"{', '.join(fit) or 'none'}"
        )
    return configured


def _holds_images(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(schema: Any, configured: str | None, path: Path) -> str:
    import pyarrow.types as types

    for name in (configured,) if configured else LABEL_COLUMNS:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind):
            return name
        raise MldrError(f"{path}: column {name!r} is {kind}; labels are integers or names")
    missing = configured or " or ".join(LABEL_COLUMNS)
    raise MldrError(
        f"{path}: no column {missing} (it has {', '.join(schema.names)}): "
        "name the labels' column with data.label_column"
    )


def _encoded(column: Any) -> Any:
    """A binary column, or the ``bytes`` of a struct column, as one ``large_binary`` array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    return column.cast(pa.large_binary()).combine_chunks()


def _labels(column: Any, images: EncodedImages) -> Labels:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise MldrError(f"{images.name(row)} has no label ({column.null_count} such rows)")
    if pa.types.is_integer(column.type):
        return np.array(column.to_numpy(), np.int64)  # a copy: Arrow's own memory is read-only
    return np.array(column.to_pylist(), object)


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Names of the classes in the metadata that Hugging Face's ``datasets`` writes."""
    try:
        info = json.loads(schema.metadata[b"huggingface"])
        return tuple(map(str, info["info"]["features"][label]["names"]))
    except (TypeError, KeyError, ValueError):
        return None


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """``parquet:PATH``: a file, or a folder whose files say train, test or val in their names.

    Without a held-out file, a fixed stratified 20 % becomes the test split; with only one, val or
    test, it is the test split.
    """
    path = Path(config.source.partition(":")[2]).expanduser()
    tables = {
        name: read_table(paths, config.image_column, config.label_column)
        for name, paths in _shards(path).items()
    }
    classes = _classes(tables)
    splits = {name: table.split(classes) for name, table in tables.items()}
    return with_held_out(classes, splits)


def _shards(path: Path) -> dict[str, list[Path]]:
    """Files by split."""
    if path.is_file():
        return {"train": [path]}
    if not path.is_dir():
        raise MldrError(f"data.source names {path}, which does not exist")
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise MldrError(f"no .parquet file lies in {path}")
    found: dict[str, list[Path]] = {}
    for file in files:
        words = re.split("[^a-z]+", file.relative_to(path).as_posix().lower())
        name = next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), "")
        found.setdefault(name, []).append(file)
    if list(found) == [""]:
        return {"train": files}
    if "" in found or "train" not in found:
        odd = found[""][0].name if "" in found else "train*.parquet"
        wrong = "does not say its split" if "" in found else "is missing"
        raise MldrError(f"{path}: {odd} {wrong}: name files train*, val* or test*")
    return found


def _classes(tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Declared names, else the label names found, else the indices 0 to the largest in train."""
    train = tables["train"]
    if any(table.names != train.names for table in tables.values()):
        raise MldrError(f"the splits in {train.origin} declare different class names")
    if train.labels.dtype == object:
        found = sorted({str(name) for table in tables.values() for name in table.labels})
        return train.names if train.names and set(found) <= set(train.names) else tuple(found)
    if train.names is not None:
        return train.names
    largest = int(train.labels.max(initial=-1))
    if largest >= max(len(train.labels), 1):
        raise MldrError(
            f"label {largest} in {train.origin} is out of range: there are only "
            f"{len(train.labels)} pictures, so classes must be numbered below that"
        )
    return tuple(map(str, range(largest + 1)))
