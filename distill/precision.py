"""Which precision is computed in: of products by device and recipe, of losses always float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .training_config import Precision

# Names of torch.cpu.get_capabilities: x86's AVX-512 and AMX, Arm's NEON and SVE.
_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether products are computed in bfloat16; ``auto``: where the hardware does it.

    Elsewhere PyTorch emulates it, which on an AVX2 CPU takes a teacher several times as long.
    """
    return computes_bf16(device) if precision == "auto" else precision == "bf16"


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision raised to float32; float64 stays, so that a loss can be checked in it."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def computes_bf16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for products of bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # A PyTorch that cannot say counts as one without: fp32 is right everywhere.
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name, False) for name in _CPU_BF16)
    return False
