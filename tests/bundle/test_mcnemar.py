from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mldr_deploy.bundle.mcnemar import mcnemar_exact


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_it_is_the_binomial_test(lost: int, gained: int) -> None:
    expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert mcnemar_exact(lost, gained) == pytest.approx(expected, rel=1e-9)


def test_by_hand() -> None:
    assert mcnemar_exact(0, 5) == 2 / 32
    assert mcnemar_exact(1, 4) == 2 * (1 + 5) / 32
    assert mcnemar_exact(0, 0) == mcnemar_exact(3, 3) == 1


def test_a_hundred_thousand_images_neither_overflow_nor_lose_digits() -> None:
    assert mcnemar_exact(5000, 5300) == pytest.approx(binomtest(5000, 10300).pvalue, rel=1e-9)
    assert mcnemar_exact(0, 3000) == 0  # below the smallest float
