"""The whole published loss of a CNN student, computed again from the paper in float64.

Projectors, fusion, the three terms of six heads and the labels: everything from the tensors of a
`state_dict`, by definitions (every relation in full), gradients by autograd through them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.distill.methods.base import Pair, Step
from mldr_deploy.distill.methods.mldr_kd import MldrKd, MldrKdConfig
from mldr_deploy.distill.task import Task
from mldr_deploy.models.stages import StageOutput, StagePlan, StageShape

SHAPES = [(1, 2), (1, 7), (2, 3), (3, 10), (5, 2), (8, 25), (16, 5), (2, 100)]
MANY = pytest.param(2, 1000, marks=pytest.mark.slow)  # every relation of which is in memory
STAGES = tuple(StageShape(3 * 2**k, 16 >> k, 16 >> k) for k in range(4))
WIDTH = 24  # the student's last stage; the teacher is narrower
PLAN = StagePlan((0, 1, 2, 3), STAGES, "map", 0, WIDTH, WIDTH)
SMOOTHING, ALPHA = 0.1, 2.0
Weights = dict[str, Tensor]


class Stub(nn.Module):
    """Four feature maps and logits that are parameters: a student without a body."""

    def __init__(self, batch: int, classes: int, scale: float) -> None:
        super().__init__()
        maps = [torch.randn(batch, s.channels, s.height, s.width) for s in STAGES]
        self.maps = nn.ParameterList(maps)
        self.logits = nn.Parameter(scale * torch.randn(batch, classes))

    def forward_intermediates(self, pixels: Tensor, **_: Any) -> tuple[Tensor, list[Tensor]]:
        """As timm's."""
        return pixels, list(self.maps)

    def forward_head(self, last: Tensor) -> Tensor:
        """As timm's."""
        return self.logits


def batch_norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    scale, shift = (weights[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def separable(x: Tensor, weights: Weights, name: str) -> Tensor:
    """3x3 depthwise (the first of stride 2), 1x1, batch norm, ReLU, twice."""
    for first, stride in ((0, 2), (4, 1)):
        depthwise = weights[f"{name}.{first}.weight"]
        x = F.conv2d(x, depthwise, stride=stride, padding=1, groups=len(depthwise))
        x = F.conv2d(x, weights[f"{name}.{first + 1}.weight"])
        x = batch_norm(x, weights, f"{name}.{first + 2}").clamp(min=0)
    return x


def projected(stage: Tensor, k: int, weights: Weights) -> tuple[Tensor, Tensor]:
    """Descriptor and logits of stage k = 0..3: 3 - k blocks, or the 1x1 convolution of the last."""
    body = f"projectors.{k}.body"
    for block in range(3 - k):
        stage = separable(stage, weights, f"{body}.{block}")
    if k == 3:
        stage = F.conv2d(stage, weights[f"{body}.0.weight"])
    descriptor = stage.mean(dim=(2, 3))
    matrix, bias = (weights[f"projectors.{k}.classifier.{part}"] for part in ("weight", "bias"))
    return descriptor, descriptor @ matrix.T + bias


def fused(descriptors: list[Tensor], logits: list[Tensor], weights: Weights) -> Tensor:
    w1, b1, w2, b2 = (
        weights[f"fusion.gate.{n}"] for n in ("0.weight", "0.bias", "2.weight", "2.bias")
    )
    gates = [F.gelu(d @ w1.T + b1) @ w2.T + b2 for d in descriptors]
    total = sum(gate.exp() for gate in gates)
    return sum(
        (gate.exp() / total * z for gate, z in zip(gates, logits, strict=True)), torch.zeros(())
    )


def labels_loss(logits: Tensor, classes: Tensor) -> Tensor:
    smooth = torch.full_like(logits, SMOOTHING / logits.shape[1])
    smooth[torch.arange(len(logits)), classes] += 1 - SMOOTHING
    return -(smooth * logits.log_softmax(dim=1)).sum() / len(logits)


def reference(
    student: Stub, weights: Weights, teacher: Tensor, classes: Tensor, textbook: Callable[..., Any]
) -> Tensor:
    pairs = [projected(stage, k, weights) for k, stage in enumerate(student.maps)]
    descriptors, logits = [list(part) for part in zip(*pairs, strict=True)]
    heads = [student.logits, *logits, fused(descriptors, logits, weights)]
    total = labels_loss(student.logits, classes)
    for head in heads:
        total = total + textbook(head, teacher).total(ALPHA)
    return total


@pytest.mark.parametrize("scale", [0.01, 1.0, 6.0])
@pytest.mark.parametrize(("batch", "classes"), [*SHAPES, MANY])
def test_equals_the_published_loss_in_value_and_gradients(
    batch: int, classes: int, scale: float, textbook: Callable[..., Any]
) -> None:
    torch.manual_seed(batch + classes)
    student = Stub(batch, classes, scale)
    method = MldrKd(MldrKdConfig(form="published"), Pair(classes, PLAN, PLAN))
    for name, parameter in method.named_parameters():
        if "fusion" in name or "classifier" in name:
            nn.init.normal_(parameter, std=0.3)  # away from the nearly even first weights
    task = (
        Task(
            student,
            PLAN,
            method,
            Preprocessing(size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1)),
            label_smoothing=SMOOTHING,
        )
        .double()
        .train()
    )
    teacher = scale * torch.randn(batch, classes, dtype=torch.float64)
    labels = torch.arange(batch) % classes
    step = Step(F.one_hot(labels, classes).double(), torch.arange(batch), torch.tensor(0.0))
    losses = task(torch.zeros(batch, 3, 8, 8, dtype=torch.float64), StageOutput(teacher, ()), step)
    mine = torch.stack(list(losses.values())).sum()
    weights = dict(method.named_parameters())
    theirs = reference(student, weights, teacher, labels, textbook)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    parameters = list(task.parameters())
    gradients = zip(
        torch.autograd.grad(mine, parameters), torch.autograd.grad(theirs, parameters), strict=True
    )
    for gradient, expected in gradients:
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)
