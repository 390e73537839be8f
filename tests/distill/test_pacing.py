"""Epochs and rate by the number of training pictures."""

from __future__ import annotations

import pytest

from mldr_deploy.distill.pacing import paced, timed
from mldr_deploy.distill.training_config import OptimizerConfig, TrainConfig


@pytest.mark.parametrize(
    ("pictures", "epochs"),
    [(1, 40), (72, 40), (270, 21), (1800, 8), (20_000, 2), (50_000, 2)],  # docs/results/photos.md
)
def test_auto_epochs_fall_with_the_number_of_pictures(pictures: int, epochs: int) -> None:
    assert timed(TrainConfig(epochs="auto"), pictures).passes == epochs


def test_auto_rates_fall_with_the_batch() -> None:
    adamw = OptimizerConfig(name="adamw", lr="auto")
    assert paced(adamw, 50).peak == pytest.approx(1e-3)
    assert paced(adamw, 2).peak == pytest.approx(2e-4)
    sgd = OptimizerConfig(name="sgd", lr="auto")
    assert paced(sgd, 32).peak == pytest.approx(0.0125)


def test_numbers_stay() -> None:
    train, optimizer = TrainConfig(epochs=3), OptimizerConfig(lr=0.3)
    assert timed(train, 10) == train and paced(optimizer, 1) == optimizer


@pytest.mark.parametrize(("epochs", "patience"), [(2, 3), (8, 3), (21, 8), (40, 16)])
def test_patience_is_a_part_of_the_epochs(epochs: int, patience: int) -> None:
    train = TrainConfig(epochs=epochs, patience="auto")
    assert timed(train, 100).endurance == patience
    assert timed(train, 100, has_weights=False).endurance == 0
    assert timed(train.model_copy(update={"patience": 5}), 100).endurance == 5
