"""The doubles of TensorRT and CUDA, in place of the real modules for one test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # modules beside the tests; the folder is no package

import double
import double_cuda


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The CUDA double, as ``cuda.bindings.runtime``."""
    return double_cuda.installed(monkeypatch)


@pytest.fixture
def trt(cuda: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The TensorRT double, on the CUDA double; everything it lent must have come back."""
    fake = double.FakeTensorRT(cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # timing caches
    yield fake
    assert cuda.live() == 0, "device memory, pinned memory, streams or graphs were not given back"
