"""Data sets of the Hub, from its own cache by its own client; no network is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.errors import MldrError, Unavailable


def load(source: str, **keys: Any) -> Dataset:
    options = {"batch_size": 2, "val_fraction": 0, "leak_share": 1, "download": False, **keys}
    return load_dataset(DataConfig(source=source, **options))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def snapshot(cache: Path, name: str, revision: str = "main") -> str:
    """Where the files of a revision lie in the cache, relative to the folder above it."""
    repository = cache / f"datasets--{name.replace('/', '--')}"
    commit = "0" * 39 + str(len(revision) % 10)
    reference = repository / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    return f"{(repository / 'snapshots' / commit).relative_to(cache.parent)}"


def shards(disk: Any, folder: str) -> None:
    for name, seed in (("train-00000-of-00001", 0), ("test-00000-of-00001", 100)):
        columns = {"image": disk.rows(8, seed), "label": [0, 1] * 4}
        disk.table(f"{folder}/data/{name}.parquet", columns)


def test_a_fetched_data_set_is_what_its_shards_are(disk: Any, cache: Path) -> None:
    folder = snapshot(cache, "people/pets")
    shards(disk, folder)
    loaded = load("hf:people/pets")
    assert (len(loaded.train), len(loaded.test)) == (8, 8)
    assert loaded.fingerprint == load(f"parquet:{disk.root / folder}").fingerprint


def test_a_data_set_of_another_format_is_taken_from_the_hub_s_conversion(
    disk: Any, cache: Path
) -> None:
    snapshot(cache, "people/pets")
    shards(disk, snapshot(cache, "people/pets", "refs/convert/parquet"))
    assert len(load("hf:people/pets").train) == 8


def test_the_conversion_is_read_from_the_cache_where_nothing_else_was_fetched(
    disk: Any, cache: Path
) -> None:
    """A data set without Parquet files leaves no snapshot of its own there."""
    shards(disk, snapshot(cache, "people/pets", "refs/convert/parquet"))
    assert len(load("hf:people/pets").train) == 8


def test_a_data_set_that_the_hub_did_not_convert_holds_no_parquet(cache: Path) -> None:
    snapshot(cache, "people/pets")
    with pytest.raises(MldrError, match="hf:people/pets holds no Parquet files"):
        load("hf:people/pets")


def test_what_cannot_be_had_is_one_line_with_the_remedy(disk: Any, cache: Path) -> None:
    with pytest.raises(Unavailable, match=r"hf:people/none cannot be fetched.*parquet:PATH"):
        load("hf:people/none")
    snapshot(cache, "people/empty", "v1")
    with pytest.raises(MldrError, match=r"hf:people/empty@v1 holds no Parquet files"):
        load("hf:people/empty@v1")


@pytest.mark.parametrize("source", ["hf:", "hf:a/b/c", "hf:a b", "hf:a/b@"])
def test_a_name_that_the_hub_cannot_have_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"hf:USER/NAME"):
        DataConfig(source=source)
