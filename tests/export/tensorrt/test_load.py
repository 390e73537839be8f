"""No engine's bytes reach the library on a machine without a GPU: it would end the process there.

The lean runtime of TensorRT 11.4 segfaults in ``deserialize_cuda_engine`` when there is no driver;
here a module that does just that stands for it, in a process of its own.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from real import ROOT

DEADLY = """
import os, signal
__version__ = "11.4.0.106"
class ILogger:
    class Severity:
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2
class Runtime:
    engine_host_code_allowed = False
    def __init__(self, logger): ...
    def deserialize_cuda_engine(self, plan):
        os.kill(os.getpid(), signal.SIGSEGV)
"""
NO_DRIVER = """
class cudaError_t:
    cudaSuccess = 0
def cudaGetDeviceCount():
    return 35, 0
def cudaGetErrorString(error):
    return 0, b"CUDA driver version is insufficient"
"""
WAYS = {
    "load_engine": (
        "from mldr_deploy.runtimes.engine_loading import load_engine\n"
        "load_engine(b'x', 0, host_code=False)"
    ),
    "TensorRt": (
        "import hashlib\nfrom mldr_deploy.bundle.engine import EngineRecord\n"
        "from mldr_deploy.bundle.manifest import Runnable\n"
        "from mldr_deploy.runtimes.tensorrt import ModelFile, TensorRt\n"
        "listed = Runnable.model_construct(sha256=hashlib.sha256(b'x').hexdigest())\n"
        "listed = listed.model_copy(update={'engine': EngineRecord.model_construct()})\n"
        "TensorRt(ModelFile(Path('e.plan'), listed)).load()"
    ),
    "inspector": (
        "from mldr_deploy.export.tensorrt import builder, engine_config\n"
        "builder._layers(b'x', 0, engine_config.EngineConfig(), Path('m.onnx'))"
    ),
    "this_machine": (
        "from mldr_deploy.runtimes.tensorrt_machine import this_machine\nthis_machine()"
    ),
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with the deadly library, a CUDA without a driver, and a plan."""
    bindings = tmp_path / "cuda" / "bindings"
    bindings.mkdir(parents=True)
    (tmp_path / "cuda" / "__init__.py").touch()
    (bindings / "__init__.py").touch()
    (bindings / "runtime.py").write_text(NO_DRIVER)
    (tmp_path / "tensorrt.py").write_text(DEADLY)
    (tmp_path / "e.plan").write_bytes(b"x")
    return tmp_path


def python(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / ".src")]),
    }
    command = [sys.executable, "-c", f"from pathlib import Path\n{program}"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_stand_in_ends_the_process(machine: Path) -> None:
    done = python(machine, "import tensorrt\ntensorrt.Runtime(0).deserialize_cuda_engine(b'x')")
    assert done.returncode == -11


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_ours_reaches_it(machine: Path, way: str) -> None:
    done = python(machine, WAYS[way])
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert done.stderr.splitlines()[-1].endswith(
        "Unavailable: TensorRT needs an NVIDIA GPU with its driver, and none can be used here "
        "(CUDA: CUDA driver version is insufficient)"
    )


def test_there_is_one_door() -> None:
    """Only ``engine_loading.py`` names the call, and it asks the machine in the line before."""
    rooms = [init.parent.rglob("*.py") for init in ROOT.glob("*/__init__.py")]
    naming = [
        str(path.relative_to(ROOT))
        for room in rooms
        for path in room
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr.startswith("deserialize")
    ]
    assert naming == ["runtimes/engine_loading.py"]
