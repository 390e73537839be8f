"""What a profile measured of each artifact, as the judge of what to ship takes it."""

from __future__ import annotations

import numpy as np

from ..bundle.manifest import Manifest
from ..bundle.shipping import Recommendation, Timing, recommend
from .report import Closed, Entry

WEIGHTS = "weights"  # format of the bare weights, which PyTorch runs as the reference
_CALL = ("host_to_device", "compute", "device_to_host")  # decoding is the same for every artifact


def recommendation(manifest: Manifest, entries: list[Entry]) -> Recommendation:
    """By the calls with one image, and with the largest batch that every entry was measured at."""
    common = set.intersection(*({closed.batch for closed in entry.closed} for entry in entries))
    timings = [
        Timing(
            entry.file, entry.runtime, *(_medians(entry, size) for size in sorted({1, max(common)}))
        )
        for entry in entries
    ]
    advice = recommend(manifest, timings)
    assert advice is not None
    return advice


def _medians(entry: Entry, batch: int) -> list[float]:
    """Milliseconds of a call by round."""
    closed: Closed = next(closed for closed in entry.closed if closed.batch == batch)
    calls = (sum(part.samples(stage) for stage in _CALL) for part in closed.rounds)
    return [float(np.median(samples)) / 1e6 for samples in calls]
