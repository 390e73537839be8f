"""Classes of unequal size, each drawn equally often."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mldr_deploy.data.balance import balanced_order, imbalance, repetitions
from mldr_deploy.data.data_config import AugmentConfig, DataConfig
from mldr_deploy.data.loader import TrainBatches
from mldr_deploy.data.split import Split

class_sizes = st.lists(st.integers(1, 60), min_size=1, max_size=6)


def labelled(sizes: list[int]) -> Split:
    """A split of black pictures, shuffled; class 3 k has ``sizes[k]`` of them."""
    labels = np.random.default_rng(1).permutation(np.repeat(3 * np.arange(len(sizes)), sizes))
    return Split.of_pixels(np.zeros((len(labels), 8, 8, 3), np.uint8), labels)


def batches(split: Split, rank: int = 0, world: int = 1) -> TrainBatches:
    return TrainBatches(
        split,
        DataConfig(batch_size=12, image_size=8),
        seed=5,
        device="cpu",
        augment=AugmentConfig(),
        rank=rank,
        world=world,
        balanced=True,
    )


@given(class_sizes, st.integers(0, 99))
def test_every_class_comes_equally_often_and_none_of_its_pictures_much_oftener(
    sizes: list[int], seed: int
) -> None:
    labels = labelled(sizes).labels
    order = balanced_order(labels, np.random.default_rng(seed))
    assert len(order) == len(labels)
    by_class = np.bincount(labels[order])[::3]
    assert by_class.max() - by_class.min() <= 1
    for label in np.unique(labels):
        times = np.bincount(order, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1


@given(st.lists(st.integers(0, 5), min_size=1))
def test_repetitions_count_what_came_before(order: list[int]) -> None:
    expected = [order[:place].count(position) for place, position in enumerate(order)]
    assert repetitions(np.array(order)).tolist() == expected


def test_the_imbalance_is_of_the_classes_that_have_pictures() -> None:
    assert imbalance(np.array([0, 0, 0, 5])) == 3
    assert imbalance(np.array([7, 7])) == 1


def test_a_balanced_epoch_is_shuffled_and_resumed_to_the_same_pictures() -> None:
    split = labelled([60, 20, 3])
    whole = [batch.indices for batch in batches(split).epoch(2)]
    labels = torch.cat([torch.from_numpy(split.labels)[indices] for indices in whole])
    assert labels.unique(return_counts=True)[1].max() <= 28 and labels.diff().count_nonzero() > 30
    later = [batch.indices for batch in batches(split).epoch(2, start_step=4)]
    assert len(later) == len(whole) - 4 == 2
    assert all(torch.equal(a, b) for a, b in zip(later, whole[4:], strict=True))


def test_processes_share_a_balanced_epoch() -> None:
    split = labelled([60, 20, 3])
    parts = [list(batches(split, rank, 3).epoch(1)) for rank in range(3)]
    for step, batch in enumerate(batches(split).epoch(1)):
        assert torch.equal(torch.cat([part[step].indices for part in parts]), batch.indices)
