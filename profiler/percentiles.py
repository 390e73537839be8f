"""Figures of a series of samples; percentiles by the nearest-rank rule (trtexec, MLPerf)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

PERCENTILES = (50, 90, 95, 99)


class Summary(BaseModel):
    """A series in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    count: int = Field(ge=1, description="Samples.")
    mean: float = Field(description="Arithmetic mean, ms.")
    p50: float = Field(description="Median by nearest rank, ms.")
    p90: float = Field(description="90th percentile by nearest rank, ms.")
    p95: float = Field(description="95th percentile by nearest rank, ms.")
    p99: float = Field(description="99th percentile by nearest rank, ms.")
    min: float = Field(description="Smallest, ms.")
    max: float = Field(description="Largest, ms.")
    cv: float = Field(ge=0, description="Standard deviation over mean, per cent.")


def rank(count: int, percent: float) -> int:
    """Position (from 0) of a percentile among ``count`` sorted samples: ceil(p/100 * n) - 1.

    No interpolation: the result is a latency that occurred. Decimal per cents are exact to 1e-6.
    """
    millionths = round(percent * 1_000_000)
    return max(math.ceil(millionths * count / 100_000_000), 1) - 1


def nearest_rank(samples: ArrayLike, percent: float) -> float:
    """The percentile of one or more ``samples`` in any order."""
    ordered = np.sort(np.asarray(samples).ravel())
    return float(ordered[rank(len(ordered), percent)])


def summarise(nanoseconds: Sequence[int] | NDArray[Any]) -> Summary:
    """``Summary`` of samples in nanoseconds."""
    ordered = np.sort(np.asarray(nanoseconds, np.float64).ravel()) / 1e6
    mean = float(ordered.mean())
    spread = float(ordered.std(ddof=1)) if len(ordered) > 1 else 0.0
    ranked = {f"p{p}": float(ordered[rank(len(ordered), p)]) for p in PERCENTILES}
    return Summary(
        count=len(ordered),
        mean=mean,
        min=float(ordered[0]),
        max=float(ordered[-1]),
        cv=100 * spread / mean if mean > 0 else 0.0,
        **ranked,
    )
