"""A recorded data configuration, opened again and replaced in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.pipeline.recorded import recorded_config, recorded_dataset

RECORDED = DataConfig(
    source="parquet:train.parquet", root=".", image_column="img", label_column="y", image_size=64
)


def test_comes_back_as_it_was() -> None:
    assert recorded_config(RECORDED.model_dump(mode="json"), None, None) == RECORDED


def test_another_source_drops_what_belonged_to_the_first() -> None:
    config = recorded_config(RECORDED.model_dump(), "cifar100", Path("b"))
    assert (config.source, config.root) == ("cifar100", "b")
    assert (config.image_column, config.label_column) == (None, None)
    assert config.image_size == 64


def test_the_same_source_said_in_another_way_keeps_its_columns() -> None:
    for said in ("parquet:./train.parquet", f"parquet:{Path.cwd() / 'train.parquet'}"):
        assert recorded_config(RECORDED.model_dump(), said, None) == RECORDED


def test_a_root_of_another_machine_counts_as_none(tmp_path: Path) -> None:
    recorded = RECORDED.model_dump() | {"source": "cifar100", "root": str(tmp_path / "elsewhere")}
    assert recorded_config(recorded, None, None).root is None
    assert recorded_config(recorded | {"root": str(tmp_path)}, None, None).root == str(tmp_path)
    assert recorded_config(recorded, None, Path("b")).root == "b"


@pytest.mark.parametrize("kind", ["folder", "parquet"])
@pytest.mark.parametrize("made", ["nothing", "an empty folder"])
def test_data_that_are_not_here_are_a_lack_of_the_machine(
    kind: str, made: str, tmp_path: Path
) -> None:
    if made == "an empty folder":  # a volume that is not mounted
        (tmp_path / "photos").mkdir()
    recorded = DataConfig(source=f"{kind}:{tmp_path}/photos").model_dump(mode="json")
    with pytest.raises(Unavailable, match=rf"not on this machine .* --data {kind}:PATH"):
        recorded_dataset(recorded, None, None, progress=Silent())
    (tmp_path / "photos").mkdir(exist_ok=True)
    (tmp_path / "photos" / "note.txt").touch()
    with pytest.raises(MldrError) as refused:  # here, but no data set
        recorded_dataset(recorded, None, None, progress=Silent())
    assert refused.value.exit_code == 1


def test_a_named_set_that_is_not_here_names_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLDR_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recorded = DataConfig(source="tiny-imagenet", download=False).model_dump(mode="json")
    with pytest.raises(Unavailable, match="--data-root, or --data SOURCE"):
        recorded_dataset(recorded, None, None, progress=Silent())


def test_same_source_keeps_everything() -> None:
    assert recorded_config(RECORDED.model_dump(), RECORDED.source, None) == RECORDED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "cifar"}, "data: source = 'cifar' is not allowed: allowed are digits, "),
        ({"image_size": 2}, "data: image_size = 2 is not allowed: input should be greater than"),
        ({"colour": 1}, "data: unknown key colour; allowed there: source, root, batch_size"),
    ],
)
def test_refusals_name_key_value_and_what_is_allowed(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(MldrError) as refused:
        recorded_config(RECORDED.model_dump() | change, None, None)
    assert str(refused.value).startswith(message)
