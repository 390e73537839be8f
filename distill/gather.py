"""Rows of all processes, for what has to span the global batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def spans_processes() -> bool:
    """Whether there are other processes to gather from."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather(local: Tensor) -> Tensor:
    """Rows of all processes in order of rank: [b, ...] -> [world * b, ...], differentiable.

    The gradient is the sum over the processes' losses; DDP's averaging then leaves the gradient
    of the one loss that all of them computed.
    """
    from torch.distributed.nn.functional import all_gather

    return torch.cat(list(all_gather(local.contiguous())))
