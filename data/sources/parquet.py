"""Parquet tables with a column of encoded images and a column of labels.

Hugging Face's layout is understood: ``{bytes, path}`` structs, and class names in the schema's
metadata. Shards may differ in how they store the same thing: widths of integers, kinds of binary
and string columns, dictionaries. The encoded bytes of all rows are kept in memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle.intake import Kind, Verdict, judge
from ...bundle.picture import HEAD
from ...bundle.progress import Progress
from ...errors import MldrError
from ..data_config import DataConfig
from ..images import EncodedImages
from ..labels import largest_label, named_labels
from ..naming import SPLIT_COLUMNS, class_name, split_called
from ..raw import LeftOut, RawDataset, RawSplit, with_held_out
from ..walk import Stray
from .shards import shards_by_split

Labels = NDArray[Any]  # int64, or object: names
_NO_IMAGE = Verdict(Kind.LOST, "rows without an image")
_NO_PICTURE = "rows whose bytes are no picture"
LABEL_COLUMNS = ("label", "labels", "fine_label", "class")


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

    def usable(self, split: str, classes: Sequence[str]) -> tuple[RawSplit, list[LeftOut]]:
        """As ``split``, but only the rows that hold a picture, and what was left out by class."""
        whole, heads = self.split(classes), self.images.heads(HEAD)
        verdicts = [_NO_IMAGE if head is None else judge("", head) for head in heads]
        good = np.array([verdict.kind is Kind.PICTURE for verdict in verdicts], bool)
        left_out = []
        for label in np.unique(whole.labels[~good]).tolist():
            alike = whole.labels == label
            strays = tuple(
                Stray(self.images.name(row), verdicts[row].reason or _NO_PICTURE, 1)
                for row in np.flatnonzero(~good & alike).tolist()
            )
            name = classes[label] if 0 <= label < len(classes) else ""
            left_out.append(LeftOut(split, name, int((good & alike).sum()), strays))
        return (whole.part(np.flatnonzero(good)) if left_out else whole), left_out

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

    image, label = _columns(paths[0], image_column, label_column)
    shards = [_read_shard(path, image, label) for path in paths]
    first = shards[0]
    for shard, path in zip(shards, paths, strict=True):
        if (shard.names, shard.labels.dtype) != (first.names, first.labels.dtype):
            difference = "class names" if shard.names != first.names else "kinds of labels"
            raise MldrError(
                f"{paths[0]} and {path} declare different {difference}: they must be alike"
            )
    rows = [(shard.name, len(shard.labels)) for shard in shards]
    images = EncodedImages(
        pa.chunked_array([shard.images for shard in shards], pa.large_binary()).combine_chunks(),
        rows,
    )
    origin = str(paths[0] if len(paths) == 1 else paths[0].parent)
    return Table(images, np.concatenate([s.labels for s in shards]), first.names, origin)


@dataclass(frozen=True)
class _Shard:
    """One file's columns, in the types that all shards share."""

    name: str
    images: Any  # Arrow large_binary [N]
    labels: Labels  # [N]
    names: tuple[str, ...] | None  # class names that the schema declares


def _columns(path: Path, image: str | None, label: str | None) -> tuple[str, str]:
    """Names of the columns of images and labels in a shard; those given are checked."""
    schema = _schema(path)
    return _image_column(schema, image, path), _label_column(schema, label, path)


def _schema(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise MldrError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def _read_shard(path: Path, image: str, label: str) -> _Shard:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(path)
    if lacking := [name for name in (image, label) if name not in schema.names]:
        raise MldrError(f"cannot read {path}: it has no column {lacking[0]}, as other shards have")
    _columns(path, image, label)
    _refuse_split_column(path, schema, label)
    try:
        table = pq.read_table(path, columns=[image, label], partitioning=None)
        images = _encoded(table[image], path.name)
        labels = _labels(table[label], path.name)
    except (OSError, pa.ArrowException) as error:
        raise MldrError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    return _Shard(path.name, images, labels, _class_names(schema, label))


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
        fault = (
            f"several columns may hold images ({', '.join(fit)})"
            if fit
            else (f"no column holds encoded images (it has {', '.join(schema.names)})")
        )
        raise MldrError(f"{path}: {fault}: name one with data.image_column")
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
    return any(
        is_kind(kind)
        for is_kind in (
            types.is_binary,
            types.is_large_binary,
            types.is_fixed_size_binary,
            types.is_binary_view,
        )
    )


def _label_column(schema: Any, configured: str | None, path: Path) -> str:
    import pyarrow.types as types

    for name in (configured,) if configured else LABEL_COLUMNS:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_integer(kind) or _is_text(kind):
            return name
        raise MldrError(
            f"{path}: column {name!r} is {kind}; labels are integers or names: convert it"
        )
    missing = configured or " or ".join(LABEL_COLUMNS)
    raise MldrError(
        f"{path}: no column {missing} (it has {', '.join(schema.names)}): "
        "name the labels' column with data.label_column"
    )


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _refuse_split_column(path: Path, schema: Any, label: str) -> None:
    """Raise MldrError where rows of several splits lie in one file."""
    import pyarrow.parquet as pq

    for name in schema.names:
        kind = schema.field(name).type
        if name.lower() in SPLIT_COLUMNS and name != label and _is_text(kind):
            values = pq.read_table(path, columns=[name], partitioning=None)[name].unique()
            if len({split_called(str(value)) for value in values.to_pylist()}) > 1:
                raise MldrError(
                    f"{path}: its rows are of several splits (column {name!r}): write a file for "
                    "each, or a csv:FILE with that column"
                )


def _encoded(column: Any, name: str) -> Any:
    """A binary column, or the ``bytes`` of a struct column, as one ``large_binary`` array.

    Raises MldrError for a picture that is only a path to somewhere else.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type):
        encoded = pc.struct_field(column, "bytes")
        if column.type.get_field_index("path") >= 0:
            paths = pc.struct_field(column, "path")
            pointers = pc.and_(pc.is_null(encoded), pc.is_valid(paths)).to_numpy()
            if pointers.any():
                row = int(np.flatnonzero(pointers)[0])
                raise MldrError(
                    f"row {row} of {name} holds no picture, only the path {paths[row].as_py()!r} "
                    f"({int(pointers.sum())} such rows): write the pictures' bytes into the table"
                )
        column = encoded
    if pa.types.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    return column.cast(pa.large_binary()).combine_chunks()


def _labels(column: Any, name: str) -> Labels:
    """Integers as int64, or names in Unicode NFC as objects."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise MldrError(f"row {row} of {name} has no label ({column.null_count} such rows)")
    if pa.types.is_integer(column.type):
        return np.array(column.cast(pa.int64()).to_numpy(), np.int64)  # a copy: Arrow's is fixed
    return named_labels(column.to_pylist(), lambda row: f"row {row} of {name}")


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Names of the classes in the metadata that Hugging Face's ``datasets`` writes."""
    try:
        info = json.loads(schema.metadata[b"huggingface"])
        return tuple(class_name(str(n)) for n in info["info"]["features"][label]["names"])
    except (TypeError, KeyError, ValueError):
        return None


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """``parquet:PATH``: a file, or a folder whose files say train, test or val in their names.

    Without a held-out file, ``data.test_fraction`` of every class is cut from train; with only
    one, val or test, it is the test split.
    """
    path = Path(config.source.partition(":")[2]).expanduser()
    shards = shards_by_split(path)
    tables = {
        name: read_table(paths, config.image_column, config.label_column)
        for name, paths in shards.by_split.items()
    }
    classes = _classes(tables)
    splits: dict[str, RawSplit] = {}
    left_out = [*shards.left_out]
    for name, table in tables.items():
        splits[name], strays = table.usable(name, classes)
        left_out += strays
    return with_held_out(classes, splits, config.test_fraction, tuple(left_out))


def _classes(tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Declared names, else the label names found, else the indices 0 to the largest in train."""
    train = tables["train"]
    if any(table.names != train.names for table in tables.values()):
        raise MldrError(f"the splits in {train.origin} declare different class names")
    if train.labels.dtype == object:
        label_names = sorted({str(name) for table in tables.values() for name in table.labels})
        return (
            train.names
            if train.names and set(label_names) <= set(train.names)
            else tuple(label_names)
        )
    if train.names is not None:
        return train.names
    return tuple(map(str, range(largest_label(train.labels, train.origin) + 1)))
