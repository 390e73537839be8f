"""Parquet tables of many shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.errors import MldrError

FEATURES = '{"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}'


def load(path: object, **keys: Any) -> Dataset:
    # A few of these tables take the same pictures for train and test.
    options = {"batch_size": 2, "val_fraction": 0, "leak_share": 1, **keys}
    return load_dataset(DataConfig(source=f"parquet:{path}", **options))


def refusal(path: object, **keys: Any) -> str:
    with pytest.raises(MldrError) as raised:
        load(path, **keys)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def pixels_of(disk: Any, count: int, seed: int = 0) -> np.ndarray:
    return np.stack([np.asarray(disk.picture(seed + index)) for index in range(count)])


def write_splits(disk: Any, train: str, test: str, **columns: Any) -> None:
    images = columns.pop("images", "image")
    for name, seed in ((train, 0), (test, 100)):
        disk.table(name, {images: disk.rows(8, seed), "label": [0, 1] * 4, **columns})


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.parquet", "test.parquet"),
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        ("pets-train-0.parquet", "pets-val.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
    ],
)
def test_splits_are_told_from_file_names(train: str, test: str, disk: Any) -> None:
    write_splits(disk, train, test)
    data = load(disk.root)
    assert data.classes == ("0", "1")
    assert np.array_equal(data.train.pixels, pixels_of(disk, 8))
    assert np.array_equal(data.test.pixels, pixels_of(disk, 8, seed=100))
    assert data.test.labels.tolist() == [0, 1] * 4
    assert data.test.labels.flags.writeable  # else torch warns at every batch


def test_validation_and_test_files_are_both_kept(disk: Any) -> None:
    write_splits(disk, "train.parquet", "test.parquet")
    disk.table("valid.parquet", {"image": disk.rows(2, 50), "label": [1, 0]})
    data = load(disk.root)
    assert [len(part) for part in (data.train, data.val, data.test)] == [8, 2, 8]


def test_one_file_gives_a_fixed_stratified_fifth_to_test(disk: Any) -> None:
    path = disk.table("pets.parquet", {"image": disk.rows(50), "label": [0, 1] * 25})
    data = load(path, val_fraction=0.1, split_seed=3)
    assert [len(part) for part in (data.train, data.val, data.test)] == [36, 4, 10]
    assert np.bincount(data.test.labels).tolist() == [5, 5]
    every = np.concatenate([data.train.pixels, data.val.pixels, data.test.pixels])
    assert len(np.unique(every.reshape(50, -1), axis=0)) == 50
    assert np.array_equal(load(path).test.pixels, data.test.pixels)


def test_shards_follow_each_other(disk: Any) -> None:
    for part in range(3):
        columns = {"image": disk.rows(4, 4 * part), "label": [0, 1, 1, 0]}
        disk.table(f"train-{part}.parquet", columns)
    disk.table("test.parquet", {"image": disk.rows(2), "label": [0, 1]})
    data = load(disk.root)
    assert np.array_equal(data.train.pixels, pixels_of(disk, 12))
    assert data.train.name(9) == "row 1 of train-2.parquet"


def test_hugging_faces_structs_and_class_names(disk: Any) -> None:
    for name, seed in (("train.parquet", 0), ("test.parquet", 40)):
        images = [{"bytes": data, "path": None} for data in disk.rows(6, seed)]
        disk.table(name, {"image": images, "label": [0, 1] * 3}, FEATURES)
    data = load(disk.root)
    assert data.classes == ("no", "yes")
    assert np.array_equal(data.train.pixels, pixels_of(disk, 6))


def test_different_declared_names_are_refused(disk: Any) -> None:
    for name, features in (("train.parquet", FEATURES), ("test.parquet", FEATURES[::1])):
        columns = {"image": disk.rows(4), "label": [0, 1] * 2}
        changed = features.replace("yes", "maybe") if name == "test.parquet" else features
        disk.table(name, columns, changed)
    assert "declare different class names" in refusal(disk.root)


@pytest.mark.parametrize("dictionary", [False, True])
def test_labels_may_be_names(dictionary: bool, disk: Any) -> None:
    names: Any = pa.array(["dog", "cat", "cat", "dog"])
    if dictionary:
        names = names.dictionary_encode()
    for name in ("train.parquet", "test.parquet"):
        disk.table(name, {"image": disk.rows(4), "label": names})
    data = load(disk.root)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [1, 0, 0, 1]


def test_names_that_differ_between_splits_are_refused(disk: Any) -> None:
    disk.table("train.parquet", {"image": disk.rows(4), "label": ["cat", "dog"] * 2})
    disk.table("test.parquet", {"image": disk.rows(2), "label": ["cat", "eel"]})
    assert "class 'eel' has no picture in the train split" in refusal(disk.root)


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary()])
def test_other_columns_do_not_matter_once_one_is_named(kind: Any, disk: Any) -> None:
    columns = {
        "thumbnail": pa.array([b"x"] * 4, kind),
        "photo": pa.array(disk.rows(4), kind),
        "species": [3, 3, 3, 3],
        "kind": pa.array([0, 1, 0, 1], pa.uint8()),
    }
    for name in ("train.parquet", "test.parquet"):
        disk.table(name, columns)
    said = refusal(disk.root)
    assert "several columns may hold images (thumbnail, photo)" in said
    assert "data.image_column" in said
    data = load(disk.root, image_column="photo", label_column="kind")
    assert np.array_equal(data.train.pixels, pixels_of(disk, 4))
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    said = refusal(disk.root, image_column="photo")
    assert "no column label or labels or fine_label or class (it has thumbnail, photo" in said
    assert "data.label_column" in said
    said = refusal(disk.root, image_column="kind", label_column="kind")
    assert "names 'kind', but columns of encoded images are: thumbnail, photo" in said


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [0, 1]}, "no column holds encoded images (it has label)"),
        ({"image": [b"a", b"b"], "label": [0.5, 1.0]}, "column 'label' is double; labels are"),
        ({"image": [b"a", b"b"], "label": [0, None]}, "row 1 of t.parquet has no label (1 such"),
    ],
)
def test_unfit_columns_are_refused(columns: dict[str, Any], said: str, disk: Any) -> None:
    path = disk.table("t.parquet", columns)
    message = refusal(path)
    assert said in message


def test_a_damaged_file_and_an_empty_folder_are_refused(disk: Any) -> None:
    assert f"no .parquet file lies in {disk.root}" in refusal(disk.root)
    (disk.root / "t.parquet").write_bytes(b"PAR1 and then nothing")
    assert f"cannot read {disk.root / 't.parquet'}" in refusal(disk.root / "t.parquet")


def test_files_that_do_not_say_their_split_are_refused(disk: Any) -> None:
    write_splits(disk, "train.parquet", "test.parquet")
    disk.table("extra.parquet", {"image": disk.rows(2), "label": [0, 1]})
    assert "extra.parquet does not say its split" in refusal(disk.root)
    (disk.root / "extra.parquet").unlink()
    (disk.root / "train.parquet").unlink()
    assert "train*.parquet is missing" in refusal(disk.root)


def test_shards_of_different_tables_are_refused(disk: Any) -> None:
    write_splits(disk, "train-0.parquet", "test.parquet")
    disk.table("train-1.parquet", {"photo": disk.rows(2), "label": [0, 1]})
    assert f"cannot read {disk.root / 'train-1.parquet'}" in refusal(disk.root)


def test_a_table_without_rows_is_refused(disk: Any) -> None:
    columns = {"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}
    path = disk.table("t.parquet", columns)
    assert f"no classes in {path}" in refusal(path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training-00000.parquet", "testing-00000.parquet"),
        ("Training_1.parquet", "TESTING.PARQUET"),
        ("petsTrain.parquet", "petsTest.parquet"),
        ("trainset.parquet", "devset.parquet"),
        ("my-test-set/train.parquet", "my-test-set/test.parquet"),
        ("Training/0.parquet", "Testing/0.parquet"),
        ("default/train-data/part-0.parquet", "default/held/valid.parquet"),
    ],
)
def test_splits_by_their_usual_names(train: str, test: str, disk: Any) -> None:
    write_splits(disk, train, test)
    data = load(disk.root)
    assert np.array_equal(data.train.pixels, pixels_of(disk, 8))
    assert np.array_equal(data.test.pixels, pixels_of(disk, 8, seed=100))


def test_a_file_is_train_whatever_its_folders_are_called(disk: Any) -> None:
    columns = {"image": disk.rows(10), "label": [0, 1] * 5}
    path = disk.table("my-test-set/validation/train.parquet", columns)
    data = load(path)
    assert (len(data.train), len(data.test), data.report.test_cut) == (8, 2, 0.2)
    assert len(load(disk.root / "my-test-set" / "validation").train) == 8


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("mytrain.parquet", "mytest.parquet"), "do not say their splits"),
        (("train.parquet", "holdout.parquet"), "holdout.parquet does not say its split"),
        (("train.parquet", "unsupervised-0.parquet"), "does not say its split"),
        (("train-and-test.parquet", "x.parquet"), "speaks of test and train"),
        (("test/train-0.parquet", "train.parquet"), "speaks of test and train"),
    ],
)
def test_names_that_leave_the_split_open_are_refused(
    names: tuple[str, str], said: str, disk: Any
) -> None:
    write_splits(disk, *names)
    assert said in refusal(disk.root)


@pytest.mark.parametrize(
    "debris",
    [
        ".ipynb_checkpoints/data-checkpoint.parquet",
        "deep/.Trash-1000/files/data.parquet",
        "@eaDir/data.parquet",
        "__MACOSX/data.parquet",
        "_delta_log/00.checkpoint.parquet",
        "_temporary/0/part-0.parquet",
        "data.parquet~",
    ],
)
def test_what_systems_leave_is_not_read(debris: str, disk: Any) -> None:
    columns = {"image": disk.rows(10), "label": [0, 1] * 5}
    disk.table("data.parquet", columns)
    disk.table(debris, columns)
    data = load(disk.root)
    assert len(data.train) + len(data.test) == 10


def test_a_shard_that_is_not_here_is_refused(disk: Any) -> None:
    write_splits(disk, "train-0.parquet", "test.parquet")
    (disk.root / "train-1.parquet").symlink_to("/annex/train-1.parquet")
    assert "train-1.parquet is one of the links to nothing" in refusal(disk.root)
    (disk.root / "train-1.parquet").unlink()
    (disk.root / "train-1.parquet.crdownload").write_bytes(b"PAR1")
    assert "train-1.parquet.crdownload is a shard that is not here yet" in refusal(disk.root)
    (disk.root / "train-1.parquet.crdownload").rename(disk.root / "train-1.parquet.gz")
    assert "train-1.parquet.gz is a shard that is not here yet" in refusal(disk.root)
    (disk.root / "train-1.parquet.gz").rename(disk.root / "train-0.parquet.gz")
    assert len(load(disk.root).train) > 0  # its shard lies beside it


def test_a_split_that_is_not_unpacked_is_refused(disk: Any) -> None:
    write_splits(disk, "train-0.parquet", "test.parquet")
    (disk.root / "test.zip").write_bytes(b"PK\3\4")
    assert len(load(disk.root).test) > 0
    (disk.root / "test.parquet").unlink()
    assert f"{disk.root}: test.zip is called like the test split, of which there is no shard" in (
        refusal(disk.root)
    )


def test_shards_behind_a_link_are_read_once(disk: Any) -> None:
    columns = {"image": disk.rows(10), "label": [0, 1] * 5}
    away = disk.table("away/part.parquet", columns).parent
    root = disk.root / "set"
    root.mkdir()
    (root / "a").symlink_to(away)
    (root / "b").symlink_to(away)
    data = load(root)
    assert len(data.train) + len(data.test) == 10


KINDS = [
    (pa.binary(), pa.int32()),
    (pa.large_binary(), pa.int64()),
    (pa.binary(), pa.uint8()),
    (pa.binary(), pa.dictionary(pa.int8(), pa.int16())),
    (pa.struct({"bytes": pa.binary(), "path": pa.string()}), pa.uint16()),
    (pa.struct({"path": pa.large_string(), "bytes": pa.large_binary()}), pa.int8()),
]


@pytest.mark.parametrize("first", range(len(KINDS)))
def test_shards_may_store_the_same_in_other_types(first: int, disk: Any) -> None:
    kinds = KINDS[first:] + KINDS[:first]
    for part, (image, label) in enumerate(kinds):
        rows: list[Any] = disk.rows(2, 2 * part)
        if pa.types.is_struct(image):
            rows = [{"bytes": data, "path": "a.png"} for data in rows]
        labels = pa.array([0, 1], label.value_type if pa.types.is_dictionary(label) else label)
        labels = labels.dictionary_encode() if pa.types.is_dictionary(label) else labels
        disk.table(f"train-{part}.parquet", {"image": pa.array(rows, image), "label": labels})
    disk.table("test.parquet", {"image": disk.rows(2, 90), "label": [0, 1]})
    data = load(disk.root)
    assert np.array_equal(data.train.pixels, pixels_of(disk, 2 * len(kinds)))
    assert data.train.labels.tolist() == [0, 1] * len(kinds)


def test_names_may_be_stored_in_other_types(disk: Any) -> None:
    texts = ["cafe\u0301", "dog"]
    columns = [
        pa.array(texts),
        pa.array(["caf\u00e9", "dog"], pa.large_string()),
        pa.array(texts).dictionary_encode(),
    ]
    for part, labels in enumerate(columns):
        disk.table(f"train-{part}.parquet", {"image": disk.rows(2, 2 * part), "label": labels})
    disk.table("test.parquet", {"image": disk.rows(2, 90), "label": texts})
    data = load(disk.root)
    assert data.classes == ("caf\u00e9", "dog") and data.train.labels.tolist() == [0, 1] * 3


def test_shards_of_numbers_and_of_names_are_refused(disk: Any) -> None:
    write_splits(disk, "train-0.parquet", "test.parquet")
    disk.table("train-1.parquet", {"image": disk.rows(2), "label": ["ant", "bee"]})
    assert "declare different kinds of labels" in refusal(disk.root)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1, 2, 3, 1, 2, 3], "labels in {path} start at 1 and end at 3: classes are numbered from"),
        ([0, 1, 0, -1, 1, 0], "label -1 of row 3 of t.parquet is out of range"),
        ([0, 1, 0, -1, 1, 0], "-1 marks pictures without a label"),
        ([True, False] * 3, "column 'label' is bool; labels are integers or names: convert it"),
        ([0.0, 1.0] * 3, "column 'label' is double; labels are integers or names"),
        ([0, 1, None, 1, 0, None], "row 2 of t.parquet has no label (2 such rows)"),
        (["a", "b", " ", "a", "b", "a"], "row 2 of t.parquet has an empty label"),
        (["a", None, "b", "a", "b", "a"], "row 1 of t.parquet has no label"),
        ([[0], [1], [0], [1], [0], [1]], "column 'label' is list<"),
        ([0, 1, 2**63, 0, 1, 0], "cannot read {path}"),
    ],
)
def test_a_bad_label_says_which_and_why(labels: list[Any], said: str, disk: Any) -> None:
    kind = pa.uint64() if 2**63 in labels else None
    columns = {"image": disk.rows(6), "label": pa.array(labels, kind)}
    path = disk.table("t.parquet", columns)
    assert said.format(path=path) in refusal(path)


def test_declared_names_with_numbers_from_1_are_refused(disk: Any) -> None:
    columns = {"image": disk.rows(6), "label": [1, 2] * 3}
    message = refusal(disk.table("t.parquet", columns, FEATURES))
    assert "label 2 of row" in message and "do the numbers start at 1?" in message


def test_a_picture_that_is_only_a_path_is_refused(disk: Any) -> None:
    images: list[Any] = [{"bytes": data, "path": "a.png"} for data in disk.rows(6)]
    images[4] = {"bytes": None, "path": "photos/4.png"}
    path = disk.table("t.parquet", {"image": images, "label": [0, 1] * 3})
    message = refusal(path)
    assert "row 4 of t.parquet holds no picture, only the path 'photos/4.png' (1 such" in message


def test_rows_without_a_picture_are_left_out_by_class_or_refused(disk: Any) -> None:
    images: list[Any] = disk.rows(20)
    images[3], images[7], images[4] = None, b"<html>", b""
    path = disk.table("t.parquet", {"image": images, "label": [0, 1] * 10})
    assert refusal(path).startswith(
        "1 of 10 pictures of class '0' in train cannot be used (files that are no pictures: 1, "
        "first row 4 of t.parquet)"
    )
    data = load(path, skip_share=0.2)
    assert len(data.train) + len(data.test) == 17
    counts = [(o.label, o.reason, o.first) for o in data.report.omissions]
    assert ("1", "rows without an image", "row 3 of t.parquet") in counts
    names = {part.name(k) for part in (data.train, data.test) for k in range(len(part))}
    assert names == {f"row {k} of t.parquet" for k in range(20) if k not in (3, 4, 7)}


def test_a_series_of_shards_must_be_whole(disk: Any) -> None:
    for number in (0, 2):
        columns = {"image": disk.rows(4, 4 * number), "label": [0, 1] * 2}
        disk.table(f"data/train-{number:05}-of-00003.parquet", columns)
    disk.table("data/test-00000-of-00001.parquet", {"image": disk.rows(2, 90), "label": [0, 1]})
    message = refusal(disk.root)
    assert "1 of the 3 shards data/train-* are not there, first number 1: fetch them" in message
    columns = {"image": disk.rows(4, 4), "label": [0, 1] * 2}
    disk.table("data/train-00001-of-00003.parquet", columns)
    assert np.array_equal(load(disk.root).train.pixels, pixels_of(disk, 12))


def test_rows_of_several_splits_in_one_file_are_refused(disk: Any) -> None:
    columns = {"image": disk.rows(10), "label": [0, 1] * 5}
    path = disk.table("t.parquet", columns | {"split": ["train"] * 8 + ["test"] * 2})
    assert "its rows are of several splits (column 'split')" in refusal(path)
    path = disk.table("t.parquet", columns | {"split": ["train"] * 10})
    assert len(load(path).train) == 8
