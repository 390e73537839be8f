"""The `tritonserver` that the package nvidia-pytriton carries, in a process of its own.

Only its Python backend is in there; the stub must be of this Python's version and lie beside the
backend, and finds packages as `python3` on its PATH does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

INSTALL = "pip install --no-deps nvidia-pytriton"  # what it asks for (numpy<2) is not needed


@dataclass(frozen=True)
class Installed:
    """Where the parts lie."""

    root: Path  # .../pytriton/tritonserver
    libraries: list[Path]

    @property
    def stub(self) -> Path:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return self.root / "python_backend_stubs" / version / "triton_python_backend_stub"


def installed() -> Installed | str:
    """The server, or why there is none."""
    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        return f"tritonserver is not here: {INSTALL}"
    package = Path(spec.origin).parent
    beside = package.parent / "nvidia_pytriton.libs"
    library = Path(sysconfig.get_config_var("LIBDIR") or "")
    found = Installed(package / "tritonserver", [beside, library])
    if not found.stub.exists():
        return f"nvidia-pytriton has no stub for Python {sys.version_info[:2]}"
    told = subprocess.run(
        ["ldd", str(found.stub)], capture_output=True, text=True, env=environment(found)
    )
    missing = [line.strip() for line in told.stdout.splitlines() if "not found" in line]
    return f"tritonserver lacks {missing[0]}" if missing or told.returncode else found


def environment(parts: Installed) -> dict[str, str]:
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join(str(one) for one in parts.libraries),
        "PATH": os.pathsep.join(paths),
    }


@contextmanager
def serving(
    parts: Installed, repository: Path, model: str, work: Path, port: int
) -> Iterator[None]:
    """``model`` is served on ``port`` meanwhile; ``work`` is an empty folder."""
    backend = work / "backends" / "python"
    shutil.copytree(parts.root / "backends" / "python", backend)
    shutil.copy(parts.stub, backend)
    options = {
        "model-repository": repository, "model-control-mode": "explicit", "load-model": model,
        "backend-directory": backend.parent, "http-address": "127.0.0.1", "http-port": port,
        "allow-grpc": "false", "allow-metrics": "false", "exit-timeout-secs": 5,
    }  # fmt: skip
    command = [parts.root / "bin" / "tritonserver"]
    with (work / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            stdout=log, stderr=log, env=environment(parts),
        )  # fmt: skip
    try:
        _await_ready(process, port, work / "log")
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"tritonserver did not start: {log.read_text()[-3000:]}")
