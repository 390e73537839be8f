"""Better than naming the largest class: against SciPy's binomial test."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from scipy.stats import binomtest

from mldr_deploy.bundle.chance import Chance, binomial_tail


@pytest.mark.parametrize("trials", [1, 7, 75, 359, 10_000])
@pytest.mark.parametrize("probability", [0.01, 0.2, 0.5, 0.97])
def test_tail_is_exact(trials: int, probability: float) -> None:
    for hits in {0, 1, trials // 5, trials // 2, trials - 1, trials}:
        expected = binomtest(hits, trials, probability, alternative="greater").pvalue
        assert binomial_tail(hits, trials, probability) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("hits", "images", "largest", "better"),
    [
        (15, 75, 15, False),  # README's own example: 20.00 % in five classes
        (18, 75, 15, False),
        (22, 75, 15, True),
        (46, 223, 50, False),  # below the largest class
        (60, 100, 60, False),  # always naming it
        (100, 100, 100, False),  # nothing to tell apart
        (9, 9, 3, True),
        (0, 50, 10, False),
    ],
)
def test_judgement(hits: int, images: int, largest: int, better: bool) -> None:
    chance = Chance(images=images, hits=hits, largest=largest)
    p = binomtest(hits, images, largest / images, alternative="greater").pvalue
    assert bool(chance) is better is bool(p <= 0.05)
    assert ("not significantly" in str(chance)) is not better


def test_a_few_images_cannot_tell() -> None:
    assert not Chance(images=4, hits=4, largest=2).can_tell  # 1/16
    assert Chance(images=5, hits=0, largest=2).can_tell  # 0.4 ** 5


def test_more_hits_than_images_are_no_record() -> None:
    with pytest.raises(ValidationError, match="11 right, 3 of one class, of 10"):
        Chance(images=10, hits=11, largest=3)
