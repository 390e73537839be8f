"""Kernel times that earlier builds measured, kept for the next one.

A time holds for one GPU model, driver and TensorRT version: all three are in the file's name, and
TensorRT compares its own header besides. A cache is a convenience: one that does not fit or is
damaged is left out, never an error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...bundle.atomic import write_bytes
from ...bundle.engine import Machine
from ...errors import MldrError

if TYPE_CHECKING:
    import tensorrt as trt


def cache_file(machine: Machine) -> Path:
    """Where the times of this machine are kept, in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"{machine.slug}-cc{machine.compute_capability}-driver{machine.driver}.timing"
    return base / "mldr-deploy" / "tensorrt" / name


def attach(config: trt.IBuilderConfig, file: Path | None) -> None:
    """Give ``config`` the times in ``file``, or an empty cache; None: measure for this build only.

    Times of another device are refused by TensorRT (no mismatch is ignored); then an empty one
    takes their place.
    """
    content = file.read_bytes() if file is not None and file.is_file() else b""
    cache: trt.ITimingCache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        fresh: trt.ITimingCache = config.create_timing_cache(b"")
        config.set_timing_cache(fresh, ignore_mismatch=False)


def store(config: trt.IBuilderConfig, file: Path) -> None:
    """Write the times of a finished build, together with what others wrote meanwhile."""
    cache: trt.ITimingCache = config.get_timing_cache()
    if cache is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            stored: trt.ITimingCache = config.create_timing_cache(file.read_bytes())
            if stored is not None:
                cache.combine(stored, ignore_mismatch=False)
        write_bytes(file, bytes(cache.serialize()))
    except (OSError, MldrError):
        return  # a read-only home, a full disk: the next build measures again
