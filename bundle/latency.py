"""What a call costs on the exporting machine, and the timing of calls in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .preprocess import Floats
from .shipping import Recommendation, Timing, recommend

if TYPE_CHECKING:
    from .manifest import Manifest

_WARM_UP, _FEWEST = 5, 10  # calls
_ROUNDS = 5


class Latency(BaseModel):
    """Medians, measured in turns with the other artifacts of the same bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ms_single: float = Field(gt=0, description="Milliseconds of a call with one image.")
    ms_batch: float = Field(gt=0, description="Milliseconds an image in calls of `batch`.")
    batch: int = Field(ge=1, description="Images in the larger call.")
    threads: int = Field(ge=1, description="Threads of the runtime.")
    machine: str = Field(description="Processor that it was measured on.")
    rounds_single: list[float] = Field(
        default_factory=list,
        description="Medians of `ms_single` by rounds in turns with the other artifacts, which "
        "tell the noise; bundles before them have none.",
    )
    rounds_batch: list[float] = Field(default_factory=list, description="The same of `ms_batch`.")


def recommended(manifest: Manifest) -> Recommendation | None:
    """The artifact to ship on the exporting machine, by the latencies of the manifest.

    None where it has none.
    """
    timings = [
        Timing(
            artifact.file,
            None,
            latency.rounds_single or [latency.ms_single],
            latency.rounds_batch or [latency.ms_batch],
        )
        for artifact in manifest.artifacts
        if (latency := artifact.latency) is not None
    ]
    return recommend(manifest, timings)


def in_turns(
    runners: Sequence[Callable[[Floats], Floats]],
    images: Floats,
    batch: int,
    *,
    seconds: float = 1.0,
) -> list[list[float]]:
    """Milliseconds an image of each of ``runners``: the medians of five rounds of calls.

    Calls take ``batch`` of the real inputs ``images`` [N, 3, H, W], which they rotate through. The
    runners are called in turns, so that what else the machine does slows all of them alike.
    ``seconds`` is for each; there are 10 calls at least.
    """
    order = np.arange(max(len(images), batch)) % len(images)
    starts = range(0, len(order) - batch + 1, batch)
    calls = [np.ascontiguousarray(images[order[start : start + batch]]) for start in starts]
    for runner in runners:
        for k in range(_WARM_UP):
            runner(calls[k % len(calls)])
    times: list[list[float]] = [[] for _ in runners]
    begun = time.perf_counter()
    while len(times[0]) < _FEWEST or time.perf_counter() - begun < seconds * len(runners):
        call = calls[len(times[0]) % len(calls)]
        for runner, own in zip(runners, times, strict=True):
            begin = time.perf_counter()
            runner(call)
            own.append(1000 * (time.perf_counter() - begin) / batch)
    return [[float(np.median(part)) for part in np.array_split(own, _ROUNDS)] for own in times]
