"""CRD against the authors' algorithm in NumPy: losses, memories, negatives, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare

from mldr_deploy.distill.methods import crd
from mldr_deploy.distill.methods.base import Pair
from mldr_deploy.distill.methods.crd import Crd, CrdConfig, Negatives
from mldr_deploy.errors import MldrError

Floats = NDArray[np.float64]
SMALL = CrdConfig(dimension=4, negatives=7, contrast_weight=0.8)


def unit(x: Floats) -> Floats:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def contrast(v: Floats, memory: Floats, drawn: NDArray[np.int64], z: float | None) -> Any:
    """The authors' ContrastMemory and ContrastLoss for one anchor, term by term."""
    count, negatives = len(memory), drawn.shape[1] - 1
    out = np.array(
        [[np.exp(a @ memory[m] / 0.07) for m in row] for a, row in zip(v, drawn, strict=True)]
    )
    z = out.mean() * count if z is None else z
    p, noise = out / z, negatives / count
    loss = 0.0
    for row in p:
        loss -= np.log(row[0] / (row[0] + noise + 1e-7))
        loss -= sum(np.log(noise / (other + noise + 1e-7)) for other in row[1:])
    return loss / len(v), z


def test_equals_the_authors_algorithm_over_two_steps(
    scene: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Z is the first step's in both; the second step sees what the first one remembered."""
    first, second = scene(seed=0), scene(seed=5)
    method = Crd(SMALL, first.pair)
    memory = {w: m.vectors.double().numpy().copy() for w, m in method.memories.items()}
    constants: dict[str, float | None] = {"student": None, "teacher": None}
    for made in (first, second):
        indices = made.step.indices
        negatives = method.negatives(indices, 7)
        monkeypatch.setattr(method, "_draw", lambda _, drawn=negatives: drawn)
        losses = method(made.student, made.teacher, made.step)
        drawn = np.column_stack([indices.numpy(), negatives.numpy()])
        v = {}
        for who, x in zip(("student", "teacher"), made.features, strict=True):
            layer = method.embeddings[who]
            weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().numpy()
            v[who] = unit(x @ weight.T + bias)
        for anchor, other in (("student", "teacher"), ("teacher", "student")):
            expected, constants[anchor] = contrast(
                v[anchor], memory[other], drawn, constants[anchor]
            )
            assert losses[f"crd.{anchor}"].item() == pytest.approx(0.8 * expected, rel=1e-4)
        for who in v:
            memory[who][indices] = unit(0.5 * memory[who][indices] + 0.5 * v[who])
            np.testing.assert_allclose(method.memories[who].vectors, memory[who], atol=1e-6)
        sum(losses.values()).backward()  # the memory has moved on; the gradient has not


def test_negatives_are_uniform_over_the_images_of_other_classes() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 0, 2, 2, 0, 1])
    torch.manual_seed(0)
    drawn = Negatives(labels)(torch.tensor([1, 5]), 20_000)
    for own, row in zip((1, 0), drawn, strict=True):
        counts = torch.bincount(row, minlength=len(labels)).numpy()
        assert not counts[labels == own].any()
        assert chisquare(counts[labels != own]).pvalue > 0.01


def test_what_it_remembers_is_in_its_state_and_what_it_can_tell_again_is_not(
    scene: Callable[..., Any],
) -> None:
    method = Crd(SMALL, scene().pair)
    assert set(method.state_dict()) == {
        "normalisers",
        *(f"memories.{who}.vectors" for who in ("student", "teacher")),
        *(f"embeddings.{w}.{p}" for w in ("student", "teacher") for p in ("weight", "bias")),
    }


def test_refuses_what_would_not_fit_in_memory(
    scene: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crd, "free_bytes", lambda device: 2**30)
    large = replace(scene().pair, labels=torch.arange(1_000_000) % 100, batch=128)
    message = r"remembers 1000000 training images, which takes [\d.]+ GiB .* has 1\.0 GiB free: "
    with pytest.raises(MldrError, match=message + r"lower method\.crd\.dimension"):
        Crd(CrdConfig(), large)
    Crd(CrdConfig(contrast_weight=0), large)  # no memory, nothing to refuse


def test_refuses_images_of_a_single_class(scene: Callable[..., Any]) -> None:
    pair: Pair = replace(scene().pair, labels=torch.full((20,), 3))
    with pytest.raises(MldrError, match="all training images are of one"):
        Crd(SMALL, pair)
