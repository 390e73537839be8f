"""CSV tables of picture files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.errors import MldrError

NAMES = ("ant", "bee")


def load(path: Path, **keys: Any) -> Dataset:
    options = {"batch_size": 2, "val_fraction": 0, **keys}
    return load_dataset(DataConfig(source=f"csv:{path}", **options))


def refusal(path: Path, **keys: Any) -> str:
    with pytest.raises(MldrError) as raised:
        load(path, **keys)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def rows(disk: Any, count: int = 10) -> list[tuple[str, str]]:
    """``count`` pictures in files, and their labels in turn."""
    (disk.root / "photos").mkdir(exist_ok=True)
    for index in range(count):
        disk.picture(index).save(disk.root / "photos" / f"{index}.png")
    return [(f"photos/{index}.png", NAMES[index % 2]) for index in range(count)]


def written(disk: Any, text: str | bytes, name: str = "t.csv") -> Path:
    path: Path = disk.root / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table(disk: Any, head: str = "path,label", count: int = 10) -> str:
    cell = "," if "," in head else ";" if ";" in head else "\t" if "\t" in head else "|"
    return "\n".join([head, *(cell.join(row) for row in rows(disk, count))])


@pytest.mark.parametrize(
    "head",
    ["path,label", "Filename;Class", "image_path\tcategory", "IMG|target", "file name,label"],
)
def test_headers_and_delimiters_as_people_write_them(head: str, disk: Any) -> None:
    data = load(written(disk, table(disk, head)))
    assert data.classes == NAMES and (len(data.train), len(data.test)) == (8, 2)
    assert data.report.test_cut == 0.2
    for index in range(8):
        number = int(Path(data.train.name(index)).stem)
        assert data.train.labels[index] == number % 2
        assert data.train.pixels is not None
        assert np.array_equal(data.train.pixels[index], np.asarray(disk.picture(number)))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_of_byte_order_is_no_part_of_a_name(encoding: str, disk: Any) -> None:
    text = table(disk).replace("ant", "caf\u00e9").replace("bee", "cafe\u0301s")
    data = load(written(disk, text.replace("\n", "\r\n").encode(encoding)))
    assert data.classes == ("caf\u00e9", "caf\u00e9s")


def test_splits_by_their_usual_names(disk: Any) -> None:
    words = ["Training", "train", "dev", "TEST", "testing"] * 4
    lines = [f"{p},{n},{word}" for (p, n), word in zip(rows(disk, 20), words, strict=True)]
    data = load(written(disk, "\n".join(["path,label,split", *lines])))
    assert [len(part) for part in (data.train, data.val, data.test)] == [8, 4, 8]
    assert data.report.test_cut is None
    assert {int(Path(data.test.name(k)).stem) % 5 for k in range(8)} == {3, 4}


def test_numbers_count_classes_from_0_or_are_names_with_leading_zeros(disk: Any) -> None:
    text = table(disk)
    numbered = text.replace("ant", "0").replace("bee", "1")
    data = load(written(disk, numbered))
    assert data.classes == ("0", "1")
    named = load(written(disk, text.replace("ant", "007").replace("bee", "010")))
    assert named.classes == ("007", "010")
    message = refusal(written(disk, text.replace("ant", "1").replace("bee", "2")))
    assert "start at 1 and end at 2: classes are numbered from 0, subtract 1" in message
    message = refusal(written(disk, numbered.replace("3.png,1", "3.png,-1"), "u.csv"))
    assert "label -1 of photos/3.png is out of range" in message
    assert "-1 marks pictures without a label" in message


def test_windows_paths_and_files_elsewhere_are_read(disk: Any) -> None:
    text = table(disk)
    inside = disk.root / "lists"
    inside.mkdir()
    away = text.replace("photos/0.png", str(disk.root / "photos" / "0.png"))
    away = away.replace("photos/1.png", "..\\photos\\1.png").replace("\nphotos", "\n../photos")
    data = load(written(disk, away, "lists/t.csv"), test_fraction=0.2)
    assert len(data.train) + len(data.test) == 10 and len(data.fingerprint) == 64


def test_the_columns_may_be_named(disk: Any) -> None:
    path = written(disk, table(disk, "photo,animal"))
    message = refusal(path)
    assert "no column is the image (its first line has photo, animal)" in message
    assert "data.image_column" in message
    assert len(load(path, image_column="photo", label_column="animal").train) == 8


def test_missing_and_false_files_are_a_loss(disk: Any) -> None:
    text = table(disk, count=20)
    (disk.root / "photos" / "3.png").unlink()
    (disk.root / "photos" / "5.png").write_bytes(b"<html>")
    path = written(disk, text)
    message = refusal(path)
    assert message.startswith("2 of 10 pictures of class 'bee' in train cannot be used")
    assert "rows whose file does not exist: 1, first photos/3.png" in message
    assert "files that are called like pictures and are none: 1, first photos/5.png" in message
    data = load(path, skip_share=0.2)
    assert len(data.train) + len(data.test) == 18
    assert [o.count for o in data.report.omissions] == [1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column is the image (its first line has nothing)"),
        ("path,label\n", "has no rows"),
        ("photos/0.png,ant\nphotos/1.png,bee", "no column is the image"),
        ("path,file,label\na,b,c", "several columns may be the image"),
        ("path,label\na.png,x,y", "line 2 has 3 cells where the first has 2"),
        ("path,label\n\na.png,", "line 3 has no label"),
        ("path,label\n,x", "line 2 has no path"),
        ("path,label,split\na.png,x,holdout", "line 2: split 'holdout' is none of train, val"),
        ("path,label,split\na.png,x,", "line 2: split '' is none of train, val and test"),
        ("path,label,split\na.png,x,test", "no row is of the train split"),
        ("path,label\na.png,0\nb.png,--3", "line 3: label --3 is no number of a class"),
        (f"path,label\na.png,{'9' * 30}", f"line 2: label {'9' * 24} is no number of a class"),
        (f"path,label\na.png,{'9' * 5000}", "is no number of a class: classes are numbered from 0"),
        (f"path,label{'x' * 200_000}\n", "line 1: field larger than field limit"),
        ("path,label\na\0.png,x", "is not UTF-8 text: save it as CSV UTF-8"),
        ("path,label\na.png,x".encode("utf-16-le"), "is not UTF-8 text: save it as CSV UTF-8"),
        (f"path,label\n{'a' * 300}.png,x", "rows whose file does not exist: 1, first aaa"),
        (b"path,label\ncaf\xe9.png,x", "is not UTF-8 text: save it as CSV UTF-8"),
    ],
)
def test_what_is_no_such_table_is_refused(text: str | bytes, said: str, disk: Any) -> None:
    assert said in refusal(written(disk, text))


def test_a_missing_file_is_refused(disk: Any) -> None:
    assert "which is not a file" in refusal(disk.root / "nowhere.csv")
