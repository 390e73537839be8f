"""How much memory a device has left."""

from __future__ import annotations

from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be taken on ``device``; None where nobody tells (a CPU not of Linux)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu" or not _MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    kibibytes = lines.get("MemAvailable", "").split()
    return int(kibibytes[0]) * 1024 if kibibytes else None
