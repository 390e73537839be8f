"""The TensorRT libraries that Python can import here: classic TensorRT and TensorRT-RTX.

TensorRT-RTX is NVIDIA's TensorRT for RTX cards: the same API in a module of its own. Its parser and
builder need no GPU. Classic TensorRT's builder does not exist without one.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from ..errors import Unavailable

RTX_INSTALL = 'pip install "mldr-deploy[tensorrt-rtx]"'
CLASSIC, RTX = "TensorRT", "TensorRT-RTX"
_RTX_MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")  # the second is what the first re-exports


@dataclass(frozen=True)
class Library:
    """An imported TensorRT module: the classic library or TensorRT-RTX."""

    name: str  # CLASSIC or RTX
    trt: Any  # the module

    @property
    def version(self) -> str:
        """Version of the library, for example 1.7.1.116."""
        return str(self.trt.__version__)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def classic() -> Library | None:
    """Classic TensorRT; None: it is not installed or does not load."""
    return _imported(CLASSIC, ("tensorrt",))


def rtx() -> Library | None:
    """TensorRT-RTX; None: it is not installed or does not load."""
    return _imported(RTX, _RTX_MODULES)


def require_rtx() -> Library:
    """TensorRT-RTX. Raises Unavailable with the command that brings it."""
    library = rtx()
    if library is None:
        raise Unavailable(f"TensorRT-RTX is not installed, or does not load: {RTX_INSTALL}")
    return library


def _imported(name: str, modules: tuple[str, ...]) -> Library | None:
    for module in modules:
        try:
            imported = importlib.import_module(module)
        except (ImportError, OSError):  # OSError: a shared library of its own is missing
            continue
        if hasattr(imported, "OnnxParser"):  # and no file of a user with that name
            return Library(name, imported)
    return None
