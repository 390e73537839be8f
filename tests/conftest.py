"""Fixtures that the tests of several folders share."""

from __future__ import annotations

import random
import socket
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


@pytest.fixture(scope="session")
def free_port() -> int:
    """A port that nothing listens on, out of the range from which systems lend ports of their own.

    A lent port (bound at 0, read, closed) may be lent to another process before it is used.
    """
    for port in random.SystemRandom().sample(range(20000, 32000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port between 20000 and 32000")


def _holding(root: Path, file: str) -> Path:
    if not (root / file).is_file():
        pytest.skip(f"{file} is not in {root}; set MLDR_DATA to the folder that holds it")
    return root
