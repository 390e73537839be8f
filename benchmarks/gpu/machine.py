"""What machine this is and what it can do: names, versions, nvidia-smi, copies and products."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch
from clocks import ask, query
from results import Part, Row
from runner import Cases
from scale import Scale

PACKAGES = ("torch", "torchvision", "timm", "triton", "accelerate", "numpy", "pydantic")
CARD = ("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.mem")
CARD += ("power.limit", "persistence_mode", "compute_mode", "mig.mode.current")


def cases(scale: Scale, part: Part) -> Cases:
    """Names and versions, nvidia-smi's answers, and the ceilings."""
    return {
        "software": lambda: software(scale),
        "card": card,
        "ceilings": lambda: ceilings(scale),
    }


def software(scale: Scale) -> Row:
    """Versions, processor, and whether this is a rehearsal."""
    return {
        "device": torch.cuda.get_device_name() if scale.device == "cuda" else "cpu",
        "rehearsal": scale.rehearsal,
        "processor": processor(),
        "cores": scale.cores,
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "versions": {name: release(name) for name in PACKAGES},
    }


def card() -> Row:
    """What nvidia-smi says; its whole answer goes to the output."""
    print(ask() or "nvidia-smi gave no answer", flush=True)
    values = query(CARD)
    return {} if values is None else dict(zip(CARD, values.split(", "), strict=False))


def ceilings(scale: Scale) -> Row:
    """Bytes a second of a copy, operations a second of a large product by precision."""
    import dfra

    rates = {"copy_bytes": dfra.bandwidth(scale.device)}
    rates |= {name: product(scale, name) for name in ("fp32", "tf32", "bf16")}
    return {name: float(f"{rate:.4g}") for name, rate in rates.items()}


def product(scale: Scale, precision: str) -> float:
    """Operations a second of a square product; ``tf32`` is float32 with TF32 allowed."""
    import dfra

    size = scale.products
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.randn(size, size, device=scale.device, dtype=kind)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        return 2 * size**3 / dfra.median(lambda: left @ left, 7, scale.device) * 1000
    finally:
        torch.set_float32_matmul_precision(before)


def arithmetic(bf16: bool) -> str:
    """In what products and convolutions are computed, as it must stand beside a figure."""
    if bf16:
        return "bf16 (autocast)"
    kinds = {
        "products": torch.get_float32_matmul_precision() != "highest",
        "convolutions": torch.backends.cudnn.allow_tf32,
    }
    if not torch.cuda.is_available():
        return "fp32"
    with_tf32 = [kind for kind, allowed in kinds.items() if allowed]
    return f"fp32, TF32 in {' and '.join(with_tf32)}" if with_tf32 else "fp32, no TF32"


def processor() -> str:
    """The CPU's name."""
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def release(package: str) -> str | None:
    """The installed version."""
    try:
        return version(package)
    except ModuleNotFoundError:
        return None
