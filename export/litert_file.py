"""A student as a LiteRT file: a ``.tflite`` of one image.

Google's converter does not resolve beside our packages, so it runs in an environment of its own,
whose Python ``MLDR_LITERT_PYTHON`` names. int8-dynamic: the weights of convolutions and of linear
layers in int8; their inputs get a scale at each call. Everything else stays in fp32.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..errors import Unavailable
from ..runtimes.litert import LiteRt, require_litert
from ..runtimes.runtime import one_line
from . import litert_converter
from .litert_reading import read_litert
from .onnx_export import quiet_exporter
from .phone_file import PhoneFormat
from .plain_program import plain_program

if TYPE_CHECKING:
    from torch import nn

CONVERTER = "MLDR_LITERT_PYTHON"
_REMEDY = (
    "make it an environment of its own (python -m venv litert && litert/bin/pip install "
    f"litert-torch) and set {CONVERTER}=litert/bin/python"
)


def _lowered(model: nn.Module, image_size: int, precision: str) -> bytes:
    import torch

    python = _python()
    with TemporaryDirectory(prefix="mldr-litert-") as name:
        source, out = Path(name, "student.pt2"), Path(name, "student.tflite")
        with quiet_exporter():
            torch.export.save(plain_program(model, image_size), source)
        # -I: nothing of ours is found there, neither beside the script nor through PYTHONPATH.
        words = [python, "-I", litert_converter.__file__, str(source), str(out), precision]
        try:
            ended = subprocess.run(words, capture_output=True, check=False)
        except OSError as error:
            raise Unavailable(f"{CONVERTER}={python} does not run ({one_line(error)})") from error
        if ended.returncode != 0 or not out.exists():
            raise _refusal(python, ended)
        return out.read_bytes()


def _require() -> None:
    require_litert()
    _python()


def _python() -> str:
    """The Python that has the converter. Raises Unavailable where none is known."""
    python = os.environ.get(CONVERTER, "")
    if not python and find_spec("litert_torch") is not None:
        return sys.executable
    if not python:
        raise Unavailable(f"LiteRT's converter is not there: {_REMEDY}")
    return python


def _refusal(python: str, ended: subprocess.CompletedProcess[bytes]) -> Exception:
    """What the converter's last line says: that it is not there, or that it refuses the model."""
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    reason = lines[-1].strip() if lines else f"exit code {ended.returncode}"
    if reason.startswith("ModuleNotFoundError"):
        return Unavailable(f"LiteRT's converter is not in {python} ({reason}): {_REMEDY}")
    return RuntimeError(reason)


LITERT = PhoneFormat("litert", ".tflite", "ai-edge-litert", _require, _lowered, read_litert, LiteRt)
