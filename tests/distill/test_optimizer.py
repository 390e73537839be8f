"""The learning rate of every step, and what is not decayed."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from mldr_deploy.distill.msdf import MultiScaleFusion
from mldr_deploy.distill.optimizer import create_optimizer, learning_rate
from mldr_deploy.distill.training_config import OptimizerConfig, ScheduleConfig
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model


def rates(steps: int, steps_per_epoch: int, peak: float, config: ScheduleConfig) -> list[float]:
    return [
        learning_rate(step, steps=steps, steps_per_epoch=steps_per_epoch, peak=peak, config=config)
        for step in range(steps)
    ]


WARM = ScheduleConfig(warmup_epochs=1, warmup_lr=0.2, min_lr=0.1)


@pytest.mark.parametrize(
    ("config", "table"),
    [
        # by hand: 0.1 + 0.9 * (1 + cos(pi * k / 4)) / 2
        (WARM, [0.2, 0.4, 0.6, 0.8, 1.0, 0.868198, 0.55, 0.231802, 0.1]),
        (
            ScheduleConfig(min_lr=0.0),
            [1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060, 0],
        ),
        (WARM.model_copy(update={"name": "constant"}), [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]),
        (WARM.model_copy(update={"warmup_epochs": 0.5}), [0.2, 0.6, 1.0]),
        (WARM.model_copy(update={"warmup_epochs": 9}), [0.2 + 0.8 * k / 9 for k in range(9)]),
    ],
)
def test_learning_rate_by_hand(config: ScheduleConfig, table: list[float]) -> None:
    assert rates(9, 4, 1.0, config)[: len(table)] == pytest.approx(table, abs=1e-6)


def test_learning_rate_equals_torch_s_linear_then_cosine_schedulers() -> None:
    steps, warmup, peak = 50, 10, 0.3
    config = ScheduleConfig(warmup_epochs=2, warmup_lr=0.03, min_lr=0.001)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    linear = LinearLR(optimizer, start_factor=0.1, total_iters=warmup)
    cosine = CosineAnnealingLR(optimizer, T_max=steps - 1 - warmup, eta_min=0.001)
    both = SequentialLR(optimizer, [linear, cosine], milestones=[warmup])
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    assert rates(steps, 5, peak, config) == pytest.approx(expected, rel=1e-6)


# By hand, for lr 0.1 and decay 0.5; Nesterov's first step is 1 + momentum times the gradient.
DECAYED_TO = {"sgd": 1 - 0.1 * 0.5 * 1.9, "adamw": 1 - 0.1 * 0.5}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_matrices_and_kernels_are_decayed(name: Literal["sgd", "adamw"]) -> None:
    """Under zero gradients a step moves what is decayed and nothing else."""
    task = nn.ModuleDict(
        {
            "vit": create_model(ModelConfig(name="test_vit"), num_classes=5, image_size=32),
            "cnn": create_model(ModelConfig(name="test_resnet"), num_classes=5, image_size=32),
            "fusion": MultiScaleFusion(8, 5),
        }
    )
    frozen = task["cnn"].fc.weight.requires_grad_(False)  # type: ignore[union-attr]
    for parameter in task.parameters():
        nn.init.normal_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    before = {name: p.detach().clone() for name, p in task.named_parameters()}
    optimizer = create_optimizer(task, OptimizerConfig(name=name, lr=0.1, weight_decay=0.5))
    optimizer.step()
    moved = {name for name, p in task.named_parameters() if not torch.equal(p, before[name])}
    kinds = (nn.Linear, nn.Conv2d)
    expected = {
        f"{path}.weight"
        for path, module in task.named_modules()
        if isinstance(module, kinds) and module.weight is not frozen
    }
    assert moved == expected
    for weight in moved:
        torch.testing.assert_close(task.get_parameter(weight), before[weight] * DECAYED_TO[name])


def test_everything_is_decayed_where_the_recipe_says_so() -> None:
    task = nn.ModuleDict(
        {"vit": create_model(ModelConfig(name="test_vit"), num_classes=5, image_size=32)}
    )
    config = OptimizerConfig(lr=0.1, weight_decay=0.5, decay_everything=True)
    (group,) = create_optimizer(task, config).param_groups
    assert group["weight_decay"] == 0.5
    assert {id(p) for p in group["params"]} == {id(p) for p in task.parameters()}
