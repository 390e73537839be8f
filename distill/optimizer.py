"""The optimiser and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from .config import OptimizerConfig, ScheduleConfig


def create_optimizer(task: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over everything in ``task`` that is trained.

    Biases, norms and what a model's own `no_weight_decay` names are not decayed (timm's habit,
    which the published runs follow).
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    exempt = set(_exempt(task))
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim <= 1 or name in exempt
            (spared if plain else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    return torch.optim.SGD(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True
    )


def learning_rate(
    step: int, *, steps: int, steps_per_epoch: int, peak: float, config: ScheduleConfig
) -> float:
    """Learning rate of ``step`` (0-based) of ``steps``."""
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps)
    if step < warmup:
        return config.warmup_lr + (peak - config.warmup_lr) * step / warmup
    if config.name == "constant":
        return peak
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    return config.min_lr + (peak - config.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def _exempt(task: nn.Module) -> Iterator[str]:
    for prefix, module in task.named_modules():
        named = getattr(module, "no_weight_decay", None)
        if callable(named):
            yield from (f"{prefix}.{name}" if prefix else name for name in named())
