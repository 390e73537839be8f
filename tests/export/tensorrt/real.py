"""The real TensorRT-RTX in a process of its own (``ask_rtx.py``): no GPU is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[2]
MODULE = "tensorrt_rtx_bindings"


def require() -> None:
    """Skip the test where the library cannot be had."""
    if find_spec(MODULE) is None:
        pytest.skip(
            "TensorRT-RTX is not installed (pip install tensorrt-rtx-cu13-bindings "
            "tensorrt-rtx-cu13-libs: wheels for Linux x86-64)"
        )


def ask(*arguments: object) -> Any:
    """The answer of ``ask_rtx.py``; skips the test where the library cannot be had."""
    require()
    paths = [str(ROOT / ".src"), str(FOLDER)]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "ask_rtx.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])
