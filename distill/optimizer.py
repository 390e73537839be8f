"""The optimiser and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import torch
from torch import nn

from .finetuning import below_head
from .training_config import OptimizerConfig, ScheduleConfig


def create_optimizer(task: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over everything in ``task`` that is trained.

    Biases, norms and what a model's own `no_weight_decay` names are not decayed (timm's habit),
    unless ``config.decay_everything``. Each group's ``rate`` is its part of the learning rate:
    ``config.below_head`` below the classifier of ``task.student``, 1 elsewhere.
    """
    exempt = set(_exempt(task))
    student = task.get_submodule("student") if config.below_head < 1 else None
    slow = {id(parameter) for parameter in below_head(student)} if student else set()
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for rate, decay in product((1.0, config.below_head), (config.weight_decay, 0.0)):
        grouped[rate, decay] = []
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            spared = not config.decay_everything and (parameter.ndim <= 1 or name in exempt)
            rate = config.below_head if id(parameter) in slow else 1.0
            grouped[rate, 0.0 if spared else config.weight_decay].append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "rate": rate}
        for (rate, decay), parameters in grouped.items()
        if parameters
    ]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.peak, betas=config.betas, fused=True)
    return torch.optim.SGD(
        groups, lr=config.peak, momentum=config.momentum, nesterov=config.momentum > 0, fused=True
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
