"""The stratified cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mldr_deploy.data.split import Split, stratified

class_sizes = st.lists(st.integers(1, 60), min_size=1, max_size=5)


@given(class_sizes, st.floats(0.01, 0.5), st.integers(0, 99))
def test_the_cut_parts_every_class_in_proportion(
    sizes: list[int], fraction: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    kept, held = stratified(labels, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert np.all(np.diff(kept) > 0) and np.all(np.diff(held) > 0)
    for label, size in enumerate(sizes):
        cut = int((labels[held] == label).sum())
        exact = fraction * size
        if size == 1:
            assert cut == 0
        else:
            assert abs(cut - exact) <= 0.5 or (cut == 1 and exact < 0.5)


def test_scikit_learns_stratified_counts_agree() -> None:
    from sklearn.model_selection import train_test_split

    labels = np.repeat(np.arange(5), [50, 100, 200, 20, 30])
    _, held = stratified(labels, 0.1, seed=3)
    _, theirs = train_test_split(labels, test_size=0.1, stratify=labels, random_state=3)
    assert np.array_equal(np.bincount(labels[held]), np.bincount(theirs))


def test_the_seed_decides_and_order_within_a_class_does_not_leak_in() -> None:
    labels = np.repeat(np.arange(4), 100)
    first, again, other = (stratified(labels, 0.2, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    places = first % 100  # where in its class each held-out picture stood
    assert 35 < places.mean() < 65
    assert len({tuple(places[labels[first] == label]) for label in range(4)}) == 4


def test_another_class_does_not_move_the_cut_of_this_one() -> None:
    few = np.repeat(np.arange(2), 50)
    many = np.concatenate([few, np.full(70, 2)])
    held = stratified(many, 0.1, 0)[1]
    assert np.array_equal(stratified(few, 0.1, 0)[1], held[held < 100])


def test_nothing_is_cut_at_fraction_zero() -> None:
    kept, held = stratified(np.arange(6) % 2, 0.0, 0)
    assert kept.tolist() == [0, 1, 2, 3, 4, 5] and len(held) == 0


def test_a_subset_keeps_pictures_labels_and_names_together() -> None:
    pixels = np.arange(6, dtype=np.uint8).repeat(12).reshape(6, 2, 2, 3)
    split = Split.of_pixels(pixels, np.arange(6) * 10)
    part = split.subset(np.array([5, 1, 3])).subset(np.array([2, 0]))
    assert part.labels.tolist() == [30, 50]
    assert [part.image(i).getpixel((0, 0)) for i in range(2)] == [(3, 3, 3), (5, 5, 5)]
    assert part.name(1) == "row 5 of the array"
