"""The real TensorRT bindings without TensorRT: the small wheel and stub libraries.

The wheel of the bindings (1.3 MB, in the ordinary registry) imports as soon as its three libraries
are found. Libraries that define the nine symbols it asks for, and do nothing, are enough to see
every class, method and enum member; nothing can be built or run with them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
_STUBS = """
void *createInferBuilder_INTERNAL(void *a, int b) { return 0; }
void *createInferRefitter_INTERNAL(void *a, void *b, int c) { return 0; }
void *createInferRuntime_INTERNAL(void *a, int b) { return 0; }
void *createNvOnnxParser_INTERNAL(void *a, void *b, int c) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *a, void *b, int c) { return 0; }
void *getBuilderPluginRegistry(int a) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void *a, const char *b) { return 1; }
"""
_PROBE = Path(__file__).with_name("describe_api.py")
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Bindings:
    """One unpacked wheel and the folder of stub libraries that it imports with."""

    folder: Path
    stubs: Path

    def run(self, *arguments: str) -> str:
        """Standard output of a fresh Python that can import the bindings and our package."""
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": os.environ.get("PATH", ""),
                "LD_LIBRARY_PATH": str(self.stubs),
                "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT / ".src")]),
            },
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def api(self) -> dict[str, object]:
        """The API as ``describe_api.py`` tells it."""
        described: dict[str, object] = json.loads(self.run(str(_PROBE), "tensorrt_bindings"))
        return described


def bindings(package: str, major: int, stubs: Path) -> Bindings:
    """The newest ``package`` of TensorRT ``major``; skips the test where it cannot be had."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the bindings' stub libraries are made for Linux")
    wheel = _wheel(package, major)
    folder = wheel.with_suffix("")
    if not folder.is_dir():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    _compile(stubs, major)
    return Bindings(folder, stubs)


def _wheel(package: str, major: int) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "mldr-deploy" / "test-wheels"
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    pattern = f"{package}-{major}.*-{tag}-*.whl"
    held = sorted(folder.glob(pattern))
    if not held:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--timeout=20", "--retries=1", "-q"]
        command += ["-d", str(folder), f"{package}>={major},<{major + 1}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        held = sorted(folder.glob(pattern))
        if not held:
            reason = " ".join(done.stderr.split())[-200:]
            pytest.skip(
                f"{package} {major}.x cannot be fetched from the package registry: {reason}"
            )
    return held[-1]


def _compile(stubs: Path, major: int) -> None:
    source = stubs / "stubs.c"
    source.write_text(_STUBS)
    for library in _LIBRARIES:
        target = stubs / f"lib{library}.so.{major}"
        command = ["gcc", "-shared", "-fPIC", "-o", str(target), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("gcc is not installed, so the stub libraries cannot be made")
