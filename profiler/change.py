"""Whether two series of latencies differ by more than noise.

Samples of one round are alike (same loading, same state of the machine), so rounds, not samples,
are what repeats. The statistic is the mean over rounds of the logarithm of a round's percentile.
Its standard error comes from a bootstrap on two levels: rounds are drawn with replacement, and in
each drawn round the percentile of a resample of its samples. That percentile is drawn exactly
without resampling: the k-th smallest of n draws from n sorted samples is the sample at position
floor(n U), U ~ Beta(k, n - k + 1). Few rounds understate the error, so it is widened by
sqrt(r / (r - 1)) a side, and the interval is Student's with the rounds' degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .percentiles import nearest_rank, rank

LEVEL = 0.99  # of the confidence interval
THRESHOLD = 0.01  # changes smaller than this are not called changes however sure they are
LEAST_ROUNDS = 3
_DRAWS = 2000

Samples = Sequence[NDArray[Any]]
Verdict = Literal["faster", "slower", "noise"]


@dataclass(frozen=True)
class Change:
    """How a percentile changed from A to B; ``verdict`` None: too few rounds to tell."""

    before: float  # ns: the percentile, geometric mean over rounds
    after: float
    ratio: float  # after / before
    low: float  # of the ratio's confidence interval
    high: float
    p: float  # two-sided, of no change
    verdict: Verdict | None


def changed(before: Samples, after: Samples, percent: float, seed: int = 0) -> Change:
    """Compare a percentile of two series, each a list of rounds of samples."""
    before_log, after_log = _mean_log(before, percent), _mean_log(after, percent)
    ratio = math.exp(after_log - before_log)
    if min(len(before), len(after)) < LEAST_ROUNDS:
        return Change(
            math.exp(before_log), math.exp(after_log), ratio, math.nan, math.nan, math.nan, None
        )
    rng = np.random.default_rng(seed)
    error = math.sqrt(_variance(before, percent, rng) + _variance(after, percent, rng))
    half, p = _student(math.log(ratio), error, len(before) + len(after) - 2)
    low, high = ratio * math.exp(-half), ratio * math.exp(half)
    verdict = _verdict(ratio) if p < 1 - LEVEL else "noise"
    return Change(math.exp(before_log), math.exp(after_log), ratio, low, high, p, verdict)


def changed_in_pairs(before: Samples, after: Samples, percent: float) -> Change:
    """Compare a percentile of two series whose rounds were measured side by side.

    What both sides of a round share cancels: the test is Student's, of the rounds' log ratios.
    """
    logs = np.array(
        [[math.log(nearest_rank(r, percent)) for r in side] for side in (before, after)]
    )
    first, second = (float(math.exp(mean)) for mean in logs.mean(axis=1))
    differences, count = logs[1] - logs[0], logs.shape[1]
    effect = float(differences.mean())
    if count < LEAST_ROUNDS:
        return Change(first, second, math.exp(effect), math.nan, math.nan, math.nan, None)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    half, p = _student(effect, error, count - 1)
    verdict = _verdict(math.exp(effect)) if p < 1 - LEVEL else "noise"
    low, high = math.exp(effect - half), math.exp(effect + half)
    return Change(first, second, math.exp(effect), low, high, p, verdict)


def judged_together(changes: Sequence[Change]) -> list[Change]:
    """The verdicts of many figures at once: at most 1 - LEVEL of those called changes are false.

    Benjamini and Hochberg's procedure; without it, a report of 100 figures would always differ from
    its twin in one.
    """
    p_values = sorted(change.p for change in changes if change.verdict is not None)
    allowed = (1 - LEVEL) / max(len(p_values), 1)
    limit = max((p for k, p in enumerate(p_values, 1) if p <= k * allowed), default=None)
    return [
        change
        if change.verdict is None or (limit is not None and change.p <= limit)
        else replace(change, verdict="noise")
        for change in changes
    ]


def _verdict(ratio: float) -> Verdict:
    if ratio >= 1 + THRESHOLD:
        return "slower"
    return "faster" if ratio <= 1 / (1 + THRESHOLD) else "noise"


def _mean_log(rounds: Samples, percent: float) -> float:
    return sum(math.log(nearest_rank(samples, percent)) for samples in rounds) / len(rounds)


def _variance(rounds: Samples, percent: float, rng: np.random.Generator) -> float:
    """Of ``_mean_log``, by the bootstrap on two levels, corrected for the number of rounds."""
    logs = np.stack(
        [_log_percentiles(samples, percent, rng) for samples in rounds]
    )  # [rounds, draws]
    round_draws = rng.integers(0, len(rounds), (len(rounds), _DRAWS))
    means = np.take_along_axis(logs, round_draws, axis=0).mean(axis=0)
    return float(means.var(ddof=1)) * len(rounds) / (len(rounds) - 1)


def _log_percentiles(
    samples: NDArray[Any], percent: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    ordered = np.sort(samples)
    count = len(ordered)
    k = rank(count, percent) + 1
    position = np.floor(count * rng.beta(k, count - k + 1, _DRAWS)).astype(np.int64)
    logs: NDArray[np.float64] = np.log(ordered[np.minimum(position, count - 1)])
    return logs


def _student(effect: float, error: float, freedom: int) -> tuple[float, float]:
    """(half the interval at ``LEVEL``, two-sided p of no effect) by Student's distribution."""
    from scipy.stats import t

    if error == 0:
        return 0.0, float(effect == 0)
    half = error * float(t.ppf(0.5 + LEVEL / 2, freedom))
    return half, 2 * float(t.sf(abs(effect) / error, freedom))
