"""Accuracy and loss of a split against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import log_loss, top_k_accuracy_score
from torch import Tensor, nn

from mldr_deploy.distill.evaluate import Evaluation, evaluate


def batches(images: int, classes: int, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    """Logits as pictures [b, C, 1, 1], which `nn.Flatten` hands through, and labels."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(images, classes, 1, 1)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, classes, images))
    return list(zip(logits.split(size), labels.split(size), strict=True))


@pytest.mark.parametrize("classes", [6, 100])
def test_equals_scikit_learn(classes: int) -> None:
    split = batches(75, classes)
    result = evaluate(nn.Flatten(), split)
    scores = softmax(torch.cat([x for x, _ in split]).flatten(1).double().numpy(), axis=1)
    labels, known = torch.cat([y for _, y in split]).numpy(), np.arange(classes)
    assert result.images == 75
    for k, mine in ((1, result.top1), (5, result.top5)):
        expected = top_k_accuracy_score(labels, scores, k=k, labels=known)
        assert mine == pytest.approx(100 * expected)
    assert result.loss == pytest.approx(log_loss(labels, scores, labels=known), rel=1e-6)


def test_with_fewer_than_five_classes_top5_is_all() -> None:
    assert evaluate(nn.Flatten(), batches(20, 3)).top5 == 100


def test_counts_of_parts_add_up_to_the_whole() -> None:
    split, device = batches(50, 10), torch.device("cpu")
    parts = (evaluate(nn.Flatten(), part).counts(device) for part in (split[:1], split[1:]))
    added, whole = Evaluation.of_counts(sum(parts)), evaluate(nn.Flatten(), split)  # type: ignore[arg-type]
    assert (added.images, added.top1_hits, added.top5_hits) == (
        50,
        whole.top1_hits,
        whole.top5_hits,
    )
    assert added.loss == pytest.approx(whole.loss)


@pytest.mark.parametrize("training", [True, False])
def test_runs_in_eval_mode_without_gradients_and_gives_the_mode_back(training: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(10, 10)).train(training)
    modes: list[tuple[bool, bool]] = []
    model[1].register_forward_hook(
        lambda module, _, out: modes.append((module.training, torch.is_grad_enabled()))
    )
    evaluate(model, batches(20, 10))
    assert set(modes) == {(False, False)}
    assert model.training is model[1].training is training


def test_an_empty_split_has_no_images() -> None:
    assert evaluate(nn.Flatten(), []).images == 0
