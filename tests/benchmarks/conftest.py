"""The run for a GPU, benchmarks/gpu, whose files import each other by their bare names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
sys.path += [str(GPU), str(Path(__file__).resolve().parent)]


@pytest.fixture
def gpu_folder() -> Path:
    """benchmarks/gpu."""
    return GPU
