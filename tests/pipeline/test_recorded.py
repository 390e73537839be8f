"""A recorded data configuration, opened again and replaced in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from mldr_deploy.data.config import DataConfig
from mldr_deploy.errors import MldrError
from mldr_deploy.pipeline.recorded import recorded_config

RECORDED = DataConfig(
    source="parquet:train.parquet", root="a", image_column="img", label_column="y", image_size=64
)


def test_comes_back_as_it_was() -> None:
    assert recorded_config(RECORDED.model_dump(mode="json"), None, None) == RECORDED


def test_another_source_drops_what_belonged_to_the_first() -> None:
    config = recorded_config(RECORDED.model_dump(), "cifar100", Path("b"))
    assert (config.source, config.root) == ("cifar100", "b")
    assert (config.image_column, config.label_column) == (None, None)
    assert config.image_size == 64


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
