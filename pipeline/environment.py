"""What this machine offers: versions, devices, optional packages, data sets."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..bundle.processor import cores

# What a run computes with. `mldr-deploy doctor` lists the versions and tells what is missing.
REQUIRED = (
    "accelerate",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pillow",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "timm",
    "torch",
    "torchvision",
)

# Extras of pyproject.toml and what each brings (a test holds the two together).
EXTRAS = {
    "serve": ("fastapi", "httptools", "prometheus-client", "python-multipart", "uvicorn", "uvloop"),
    "ray": ("ray",),
    "heic": ("pillow-heif",),
    "openvino": ("openvino",),
    "executorch": ("executorch",),
    "litert": ("ai-edge-litert",),
    "tensorrt": ("cuda-bindings", "tensorrt"),
    "tensorrt-rtx": ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"),
    "mamba": ("causal-conv1d", "mamba-ssm"),
    "dev": (
        "ai-edge-litert",
        "build",
        "executorch",
        "fastapi",
        "hypothesis",
        "mypy",
        "pillow-heif",
        "playwright",
        "prometheus-client",
        "pytest",
        "python-multipart",
        "ruff",
        "schemathesis",
        "tensorrt-rtx-cu13-bindings",
        "tensorrt-rtx-cu13-libs",
        "tritonclient",
        "uvicorn",
    ),
}

# A file that is there when the named data set is there.
_DATA_SETS = {
    "cifar100": ("cifar100-test.parquet", "cifar-100-python"),
    "tiny-imagenet": ("tiny-imagenet-val.parquet", "tiny-imagenet-200"),
}


@dataclass(frozen=True)
class Device:
    """One place to compute."""

    name: str  # as --device takes it
    description: str
    memory_gib: float | None = None


@dataclass(frozen=True)
class Extra:
    """An optional group of packages."""

    name: str
    missing: tuple[str, ...]

    @property
    def install(self) -> str:
        """The command that brings what is missing."""
        return f'pip install "mldr-deploy[{self.name}]"'


@dataclass(frozen=True)
class Environment:
    """Everything `doctor` shows."""

    python: str
    platform: str
    versions: dict[str, str | None]  # None: not installed
    devices: tuple[Device, ...]
    extras: tuple[Extra, ...]
    data_root: str
    data_sets: dict[str, str | None]  # where it lies; None: not found
    tensorrt: str  # what it would run on, or what it lacks
    problems: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; an extra carries its install command when something is missing."""
        plain = asdict(self)
        for extra, fields in zip(self.extras, plain["extras"], strict=True):
            fields["install"] = extra.install if extra.missing else None
        return plain


def versions(packages: tuple[str, ...] = REQUIRED) -> dict[str, str | None]:
    """Installed version of each package, read from its metadata; nothing is imported."""
    return {package: _version(package) for package in packages}


def inspect_environment() -> Environment:
    """Look at this machine. Imports torch; raises nothing: what is wrong is in ``problems``."""
    installed = versions()
    problems = [f"{name} is not installed" for name, version in installed.items() if not version]
    devices: tuple[Device, ...] = (_cpu(),)
    try:
        devices += _accelerators()
    except (ImportError, OSError, RuntimeError) as error:
        problems.append(f"torch cannot be used: {error}")
    root, data_sets, complaint = _data_sets()
    problems += [complaint] if complaint else []
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        versions=installed,
        devices=devices,
        extras=tuple(_extra(name) for name in EXTRAS),
        data_root=root,
        data_sets=data_sets,
        tensorrt=_tensorrt(),
        problems=tuple(problems),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extra(name: str) -> Extra:
    return Extra(name, tuple(package for package in EXTRAS[name] if _version(package) is None))


def _cpu() -> Device:
    return Device("cpu", f"{platform.machine()}, {cores()}")


def _accelerators() -> tuple[Device, ...]:
    import torch

    devices = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        name = f"{about.name}, compute capability {about.major}.{about.minor}"
        devices.append(Device(f"cuda:{index}", name, round(about.total_memory / 2**30, 1)))
    if torch.backends.mps.is_available():
        devices.append(Device("mps", "Apple GPU"))
    return tuple(devices)


def _tensorrt() -> str:
    from ..runtimes.tensorrt_machine import missing, this_machine

    return missing() or f"ready: {this_machine()}"


def _data_sets() -> tuple[str, dict[str, str | None], str | None]:
    from ..data.root import cache_folder, data_root
    from ..errors import MldrError

    complaint = None
    try:
        root = data_root(None)
    except MldrError as error:
        root, complaint = cache_folder(), str(error)
    places: dict[str, str | None] = {"digits": "embedded"}
    for name, marks in _DATA_SETS.items():
        existing = [root / mark for mark in marks if Path(root / mark).exists()]
        places[name] = str(existing[0]) if existing else None
    return str(root), places, complaint
