"""What names say of splits and classes."""

from __future__ import annotations

import unicodedata

import pytest

from mldr_deploy.data.naming import class_name, file_split, hidden_splits, split_called, splits_in


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "Training", "TRAIN", "Training Set", "train2017")),
        *(
            (name, "val")
            for name in ("val", "Valid", "validation", "dev", "valid_images", "ValSet")
        ),
        *((name, "test") for name in ("test", "Testing", "test_set", "testData", "images-test")),
        *((name, None) for name in ("seg_train", "test tube", "my-test-set", "extra", "latest")),
        *((name, None) for name in ("train_val", "trainer", "data", "images", "", "日本")),
    ],
)
def test_a_folder_is_a_split_only_where_it_says_nothing_else(name: str, split: str | None) -> None:
    assert split_called(name) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "val") for name in ("val", "val.zip", "valid.7z", "Validation Set.tar")),
        *((name, "test") for name in ("Test.tar.gz", "test2017.ZIP", "test.zip.crdownload")),
        *((name, None) for name in ("val.csv", "test.png", "val.v2", "contest.zip", ".val", "")),
    ],
)
def test_a_file_stands_for_a_split_where_it_is_called_so(name: str, split: str | None) -> None:
    assert file_split(name) == split


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("train-00000-of-00002", {"train"}),
        ("training_1", {"train"}),
        ("testing-0", {"test"}),
        ("petsTest01", {"test"}),
        ("trainset", {"train"}),
        ("DEV", {"val"}),
        ("train-and-test", {"train", "test"}),
        ("latest", set()),
        ("contest-0", set()),
        ("constrained", set()),
        ("0000", set()),
    ],
)
def test_words_of_a_file_s_name(name: str, splits: set[str]) -> None:
    assert splits_in(name) == splits


def test_names_that_hide_splits_are_seen() -> None:
    assert hidden_splits(["mytrain.parquet", "mytest.parquet"]) == [
        "mytrain.parquet",
        "mytest.parquet",
    ]
    assert hidden_splits(["latest.parquet", "a.parquet"]) == []


def test_class_names_are_compared_in_nfc() -> None:
    assert class_name("cafe\u0301") == "caf\u00e9" == unicodedata.normalize("NFC", "cafe\u0301")
