"""Measurements of this machine, kept by what was measured: nothing is measured twice.

FOLDER/KIND/KEY.json, KEY a hash of the subject, the processor and the versions that decide.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..bundle.atomic import write_json
from ..bundle.processor import cores, processor
from ..data.root import cache_folder
from ..distill.phase import identity_of
from ..errors import MldrError

_PACKAGES = ("mldr-deploy", "torch", "timm", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Measurements:
    """The folder of what was measured on this machine."""

    folder: Path

    @classmethod
    def of_user(cls) -> Measurements:
        """The one in the user's cache folder."""
        return cls(cache_folder().parent / "measured")

    def read(self, kind: str, subject: dict[str, Any]) -> Any:
        """What was measured of ``subject`` here; None where nothing was, or it is damaged."""
        try:
            return json.loads(self._file(kind, subject).read_text(encoding="utf-8"))["measured"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, kind: str, subject: dict[str, Any], measured: Any) -> None:
        """Keep ``measured``, values of JSON. Raises MldrError when the folder takes nothing."""
        file = self._file(kind, subject)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"subject": subject, "machine": machine(), "measured": measured})
        except OSError as error:
            raise MldrError(
                f"{self.folder} cannot be written ({error.strerror}): set XDG_CACHE_HOME to a "
                "folder that can"
            ) from error

    def _file(self, kind: str, subject: dict[str, Any]) -> Path:
        key = identity_of({"subject": subject, "machine": machine()})
        return self.folder / kind / f"{key[:32]}.json"


def machine() -> dict[str, Any]:
    """What a figure depends on beside its subject."""
    available = cores()
    return {
        "processor": processor(),
        "cores": available.usable,
        "cpu_quota": available.quota,
        "versions": {name: version(name) for name in _PACKAGES},
    }


def device_kind(device: str) -> str:
    """``device``, with what PyTorch finds here in the place of auto."""
    import torch

    if device.strip().lower() != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_name(device: str) -> str:
    """What --device ``device`` trains on: cpu, mps, or a GPU by its name."""
    import torch

    kind, _, index = device_kind(device).strip().lower().partition(":")
    number = int(index) if index.isdecimal() else 0
    if kind != "cuda" or number >= torch.cuda.device_count():
        return kind
    return torch.cuda.get_device_name(number)
