"""What a file of weights holds, told by its content: safetensors, or what torch.save wrote.

No code of a checkpoint is ever run, and no object of it but tensors and plain containers is made:
paths, command lines, configurations, numbers of NumPy are replaced by inert stand-ins while
PyTorch's own restricted reader goes over the file.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import MldrError
from .evaluation import one_line

_RESAVE = (
    'save its tensors alone: torch.save(model.state_dict(), "weights.pth"), or safetensors.torch'
    ".save_file"
)
# First bytes of what people take for weights, and what to do about it.
_MISTAKEN = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file: git lfs pull fetches it",
    b"<!DOCTYPE": "a web page, not weights: download the file itself",
    b"<html": "a web page, not weights: download the file itself",
    b"\x89HDF": "an HDF5 file (Keras): convert it to a PyTorch state dict first",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
}
# What the readers raise: on a damaged file, and on one that holds more than they make.
_DAMAGED = (
    SafetensorError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    ArithmeticError,
    MemoryError,
    AssertionError,
    struct.error,
)
_UNREADABLE = (pickle.UnpicklingError, TypeError, AttributeError)
_PICKLES = 4  # that a file of PyTorch before 1.6 begins with: magic, version, system, content
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # modules as protocol 2 names them
_BLOCKED = re.compile(r"GLOBAL (\S+)")


class Inert(list[Any]):
    """Stands for an object that is no tensor; does nothing, and keeps the state it was given."""

    state: Any = None

    def __new__(cls, *_arguments: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_arguments: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Keyed:
    """Makes plain dictionaries in place of subclasses of dict."""

    def __new__(cls, *_arguments: Any) -> Any:
        return OrderedDict()


def read_content(path: Path) -> Any:
    """The nested containers and tensors in the file `path`, whatever its suffix, on the CPU.

    Raises:
        MldrError: no such file, a damaged one, or one of another kind, with what mends it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(32)
        if start[8:9] == b"{":
            return load_file(path)
        if start.startswith((b"PK\x03\x04", b"\x80")):
            return _read_torch(path)
    except _DAMAGED as error:
        raise MldrError(f"{path} is not a readable file of weights: {one_line(error)}") from error
    raise MldrError(f"{path} is {_kind(path, start)}")


def _read_torch(path: Path) -> Any:
    """What torch.save wrote, by its restricted reader."""
    try:
        foreign = _foreign(path)
        try:
            return _restricted(path, {name: Inert for name in foreign})
        except _UNREADABLE:  # a subclass of dict, most likely: only plain ones may be filled
            numbers = {name for name in foreign if name.startswith("numpy")}
            return _restricted(path, {n: Inert if n in numbers else _Keyed for n in foreign})
    except _UNREADABLE as error:
        blocked = _BLOCKED.search(str(error))
        refers = f" (it refers to {blocked[1]})" if blocked else ""
        raise MldrError(
            f"{path} is damaged or holds Python objects that are never loaded{refers}: {_RESAVE}"
        ) from error


def _restricted(path: Path, stand_ins: dict[str, type]) -> Any:
    """`path` with a stand-in for each of these names."""
    with (
        path.open("rb") as file,  # of a path PyTorch would judge by the suffix
        warnings.catch_warnings(action="ignore"),
        torch.serialization.safe_globals([(kind, name) for name, kind in stand_ins.items()]),
    ):
        return torch.load(file, map_location="cpu", weights_only=True)


def _foreign(path: Path) -> set[str]:
    """Dotted names in the checkpoint `path` that PyTorch's restricted reader does not know."""
    if zipfile.is_zipfile(path):
        try:
            return set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
        except ValueError as error:
            raise RuntimeError(f"it is a TorchScript program; {_RESAVE}") from error
    with path.open("rb") as file:
        operations = [op for _ in range(_PICKLES) for op in pickletools.genops(file)]
    named = (str(argument).split(" ") for op, argument, _ in operations if op.name == "GLOBAL")
    return {f"{_PYTHON_2.get(module, module)}.{name}" for module, name in named}


def _kind(path: Path, start: bytes) -> str:
    for beginning, kind in _MISTAKEN.items():
        if start.startswith(beginning):
            return kind
    if not start:
        return "empty: copy or download it again"
    if path.name.lower().endswith(".index.json"):
        return "the index of a checkpoint in several files: merge them into a single .safetensors"
    return "no file of weights: give a .safetensors file, or a .pth or .pt that torch.save wrote"
