"""McNemar's exact test of two classifiers on the same images."""

from __future__ import annotations


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided p that ``lost`` and ``gained`` differ by chance.

    Only images that exactly one of the two gets right tell anything; under the null hypothesis
    each falls either way with probability 1/2, so p = min(1, 2 P[X <= min], X ~ Bin(n, 1/2))
    (McNemar 1947; the binomial form of Edwards 1948 without an approximation). Exact in integers.
    """
    n, k = lost + gained, min(lost, gained)
    term = tail = 1  # C(n, 0)
    for i in range(1, k + 1):
        term = term * (n - i + 1) // i
        tail += term
    p: float = 2 * tail / (1 << n)
    return min(1.0, p)
