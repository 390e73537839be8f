"""Servers read data sources without the training stack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mldr_deploy

SOURCE = str(Path(mldr_deploy.__file__).resolve().parent / ".src")


@pytest.mark.parametrize("module", ["data_config", "dataset", "root", "sources.source_registry"])
def test_sources_import_without_the_training_stack(module: str) -> None:
    heavy = {"torch", "torchvision", "timm", "sklearn", "pyarrow", "onnxruntime", "matplotlib"}
    program = (
        f"import sys; sys.path.insert(0, {SOURCE!r}); import mldr_deploy.data.{module}; "
        f"print(*sorted({heavy} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
