"""MSDF against the same arithmetic in NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax
from torch import Tensor, nn

from mldr_deploy.distill.msdf import MultiScaleFusion

BATCH, STAGES, WIDTH, CLASSES = 3, 4, 6, 5


@pytest.fixture
def fusion() -> MultiScaleFusion:
    """With weights large enough that the stages differ."""
    torch.manual_seed(0)
    made = MultiScaleFusion(WIDTH, CLASSES)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(BATCH, STAGES, WIDTH), torch.randn(BATCH, STAGES, CLASSES)


def test_fused_logits_are_the_stages_weighed_by_the_gate(
    fusion: MultiScaleFusion, inputs: tuple[Tensor, Tensor]
) -> None:
    descriptors, logits = (tensor.double().numpy() for tensor in inputs)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in fusion.gate.parameters())
    assert w1.shape == (4 * CLASSES, WIDTH)
    hidden = descriptors @ w1.T + b1
    hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
    weights = softmax(hidden @ w2.T + b2, axis=1)
    fused = sum(weights[:, k] * logits[:, k] for k in range(STAGES))
    mine = fusion(*inputs)
    np.testing.assert_allclose(mine.weights.detach(), weights, atol=1e-5)
    np.testing.assert_allclose(mine.logits.detach(), fused, atol=1e-5)


def test_weights_sum_to_one_over_the_stages_and_differ_by_sample_and_class(
    fusion: MultiScaleFusion, inputs: tuple[Tensor, Tensor]
) -> None:
    weights = fusion(*inputs).weights
    assert weights.shape == (BATCH, STAGES, CLASSES)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(BATCH, CLASSES))
    assert weights.std(dim=0).min() > 0
    assert weights.std(dim=2).min() > 0


def test_a_fresh_gate_is_almost_indifferent() -> None:
    """Normal 0.02 weights and no biases: every stage starts with nearly a quarter."""
    torch.manual_seed(0)
    weights = MultiScaleFusion(64, 10)(torch.randn(8, 4, 64), torch.randn(8, 4, 10)).weights
    torch.testing.assert_close(weights, torch.full_like(weights, 0.25), rtol=0, atol=0.02)
