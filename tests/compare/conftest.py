"""A comparison over the embedded digits, small enough to be carried out in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

MATRIX = """
name = "tiny"
methods = ["scratch", "kd", "mldr-kd"]
seeds = [0, 1]

[recipe.data]
batch_size = 256
[recipe.train]
epochs = 1
precision = "fp32"
teacher_precision = "fp32"
teacher_views = 1

[teachers.resnet]
name = "test_resnet"
train = { epochs = 5, precision = "fp32" }
optimizer = { name = "adamw", lr = 1e-2 }

[pairs.vit]
teacher = "resnet"
student = { name = "test_vit" }
"""


@pytest.fixture(scope="session")
def matrix_text() -> str:
    """What `matrix` holds."""
    return MATRIX


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """The file; append to it or rewrite it."""
    path = tmp_path / "matrix.toml"
    path.write_text(MATRIX)
    return path
