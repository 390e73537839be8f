"""Paired tests against SciPy's and statsmodels' textbook forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from mldr_deploy.compare.paired import Hits, compare


def outcomes(seed: int, rate: float, images: int = 2000) -> Hits:
    return np.random.default_rng(seed).random(images) < rate


def test_each_seeds_p_is_the_binomial_test_of_the_discordant_images() -> None:
    first = [outcomes(seed, 0.55) for seed in range(3)]
    second = [outcomes(seed + 10, 0.5) for seed in range(3)]
    found = compare(first, second)
    for mine, theirs, p in zip(first, second, found.mcnemar_p, strict=True):
        won, lost = int((mine & ~theirs).sum()), int((~mine & theirs).sum())
        assert p == pytest.approx(binomtest(won, won + lost).pvalue, rel=1e-9)
    accuracy = [[100 * hits.mean() for hits in runs] for runs in (first, second)]
    assert found.t_test_p == pytest.approx(ttest_rel(*accuracy).pvalue, rel=1e-9)
    assert found.gain == pytest.approx(np.mean(accuracy[0]) - np.mean(accuracy[1]))


def test_a_gain_counts_when_every_seed_shows_it() -> None:
    base = outcomes(0, 0.5)
    better = base | outcomes(1, 0.1)
    assert compare([better, better], [base, base]).significant
    assert compare([base, base], [better, better]).significant  # the other way is known as surely
    assert not compare([better, base], [base, base]).significant
    assert not compare([better, base], [base, better]).significant


def test_chance_alone_is_rarely_significant() -> None:
    alarms = sum(
        compare(
            [outcomes(4 * k, 0.5, 500), outcomes(4 * k + 1, 0.5, 500)],
            [outcomes(4 * k + 2, 0.5, 500), outcomes(4 * k + 3, 0.5, 500)],
        ).significant
        for k in range(300)
    )
    assert alarms <= 6  # both seeds at 5 % and one way: 0.13 % expected


def test_without_three_seeds_there_is_no_t_test() -> None:
    base = outcomes(0, 0.5)
    assert compare([base, base], [base, base]).t_test_p is None
    assert compare([base] * 3, [base] * 3).t_test_p == 1.0
    with pytest.raises(ValueError, match="not paired"):
        compare([base], [base[:-1]])
