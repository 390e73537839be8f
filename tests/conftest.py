"""Fixtures that the tests of several folders share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mldr_deploy.data.root import data_root as find_data_root


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real data sets: $MLDR_DATA or ../shared/data beside the checkout."""
    return find_data_root(None)


@pytest.fixture(scope="session")
def cifar100_root(data_root: Path) -> Path:
    """The same, known to hold CIFAR-100."""
    return _holding(data_root, "cifar100-test.parquet")


@pytest.fixture(scope="session")
def tiny_imagenet_root(data_root: Path) -> Path:
    """The same, known to hold Tiny-ImageNet."""
    return _holding(data_root, "tiny-imagenet-val.parquet")


def _holding(root: Path, file: str) -> Path:
    if not (root / file).is_file():
        pytest.skip(f"{file} is not in {root}; set MLDR_DATA to the folder that holds it")
    return root
