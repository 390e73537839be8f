"""What the data keys of a recipe may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mldr_deploy.data.data_config import (
    NAMED_SOURCES,
    PATH_SOURCES,
    AugmentConfig,
    DataConfig,
    located,
)
from mldr_deploy.data.sources.source_registry import SOURCES


def test_every_allowed_source_is_registered() -> None:
    assert set(SOURCES) == {*NAMED_SOURCES, *PATH_SOURCES, "hf"}


@pytest.mark.parametrize(
    "source", [*NAMED_SOURCES, "folder:/a b", "parquet:x.parquet", "csv:t.csv"]
)
def test_known_sources_pass(source: str) -> None:
    assert DataConfig(source=source).source == source


@pytest.mark.parametrize(
    ("source", "normal"),
    [
        ("folder:photos/", "folder:photos"),
        ("folder:./photos", "folder:photos"),
        ("csv:.//a/./t.csv", "csv:a/t.csv"),
        ("parquet:/data//x/", "parquet:/data/x"),
        ("folder:./", "folder:."),
        ("folder:link/../photos", "folder:link/../photos"),  # the link may lead elsewhere
        ("folder:~/photos/", "folder:~/photos"),
        ("hf:user/name@./a/", "hf:user/name@./a/"),
    ],
)
def test_a_path_has_one_form(source: str, normal: str) -> None:
    assert DataConfig(source=source).source == normal


def test_the_same_place_said_in_another_way_is_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    for other in (tmp_path / "photos", "link", "link/../photos", "./photos/"):
        assert located(f"folder:{other}") == located("folder:photos")
    assert located("folder:more") != located("folder:photos") != located("parquet:photos")
    assert located("hf:a/b") == "hf:a/b" and located("digits") == "digits"


@pytest.mark.parametrize(
    "source", ["", "mnist", "folder", "folder: ", "parquet:", "csv:", "digits:x"]
)
def test_an_unknown_source_is_answered_with_those_allowed(source: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        DataConfig(source=source)
    assert "digits, cifar100, tiny-imagenet, folder:PATH, parquet:PATH, csv:FILE" in str(
        refusal.value
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("scale", (0.9, 0.2), "first bound must not exceed the second"),
        ("ratio", (2.0, 1.0), "first bound must not exceed the second"),
        ("scale", (0.5, 1.5), "cannot exceed the image"),
        ("scale", (0.0, 1.0), "greater than 0"),
        ("randaugment", 11, "less than or equal to 10"),
        ("flip", 1.5, "less than or equal to 1"),
        ("crop", "zoom", "'none', 'pad' or 'random-resized'"),
    ],
)
def test_impossible_augmentation_is_refused(key: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        AugmentConfig(**{key: value})
    assert said in str(refusal.value)


@pytest.mark.parametrize("model", [DataConfig, AugmentConfig])
def test_every_key_is_documented_and_unknown_ones_are_refused(model: type) -> None:
    assert all(len(field.description or "") > 20 for field in model.model_fields.values())
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model(nonsense=1)
