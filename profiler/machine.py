"""Facts about this machine that a latency depends on; unknown ones are left empty."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import __version__
from ..bundle.processor import cores, cpuinfo, processor
from ..runtimes.runtime import RuntimeOptions
from .report import MachineFacts

_PACKAGES = {
    "onnxruntime-cpu": ("onnxruntime",),
    "onnxruntime-cuda": ("onnxruntime-gpu", "onnxruntime"),
    "onnxruntime-tensorrt-rtx": ("onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnxruntime"),
    "openvino": ("openvino",),
    "executorch": ("executorch",),
    "litert": ("ai-edge-litert",),
    "tensorrt": ("tensorrt",),
    "pytorch": ("torch", "timm"),
    "pytorch-compiled": ("torch", "timm"),
}
_GPU = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")


def this_machine(runtimes: list[str], options: RuntimeOptions) -> MachineFacts:
    """The facts; ``runtimes`` decides which packages' versions are among them."""
    available = cores()
    return MachineFacts(
        cpu=processor(),
        cores=available.usable,
        cpu_quota=available.quota,
        threads=options.cores,
        memory_gib=_memory_gib(),
        governor=_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        cpu_mhz=_mhz(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        gpu=_gpu(options.device),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=_versions(runtimes),
    )


def _versions(runtimes: list[str]) -> dict[str, str]:
    versions = {"mldr-deploy": __version__, "python": platform.python_version()}
    packages = ["numpy", "pillow", *(p for name in runtimes for p in _PACKAGES.get(name, ()))]
    for package in dict.fromkeys(packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _mhz() -> float | None:
    try:
        return round(float(cpuinfo("cpu MHz") or ""), 1)
    except ValueError:
        return None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gpu(device: int) -> dict[str, str]:
    """What nvidia-smi tells of GPU ``device``; empty without one."""
    question = ["nvidia-smi", f"--id={device}", f"--query-gpu={','.join(_GPU)}"]
    try:
        answer = subprocess.run(
            [*question, "--format=csv,noheader"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in answer.stdout.splitlines()[0].split(",")]
    return dict(zip(_GPU, values, strict=False))


def _line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
