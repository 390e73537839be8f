"""What the protocol's statistics extension tells: counts and times since the service started.

Dataclasses, for they are written to with every request; FastAPI reads them as it does models.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from .batcher import BatchedLogits, BatchTimes


@dataclass(slots=True)
class Duration:
    """How often something happened, and for how long in all."""

    count: int = 0
    ns: Annotated[int, Field(description="Nanoseconds.")] = 0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.ns += round(1e9 * seconds)


@dataclass(slots=True, kw_only=True)
class ComputeDurations:
    """The parts of a computation."""

    compute_input: Annotated[Duration, Field(description="Host to device.")] = field(
        default_factory=Duration
    )
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Annotated[Duration, Field(description="Device to host.")] = field(
        default_factory=Duration
    )

    def add(self, times: BatchTimes) -> None:
        """Count one more computation."""
        self.compute_input.add(times.host_to_device)
        self.compute_infer.add(times.compute)
        self.compute_output.add(times.device_to_host)


@dataclass(slots=True, kw_only=True)
class InferenceStatistics(ComputeDurations):
    """Of requests; the parts of a computation count for each request in it."""

    success: Duration = field(default_factory=Duration)
    fail: Annotated[
        Duration, Field(description="Refused by the queue, too late, or not computed.")
    ] = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    cache_hit: Annotated[Duration, Field(description="There is no cache.")] = field(
        default_factory=Duration
    )
    cache_miss: Duration = field(default_factory=Duration)


@dataclass(slots=True, kw_only=True)
class BatchStatistics(ComputeDurations):
    """Of computations of one size."""

    batch_size: int


@dataclass(slots=True)
class ModelStatistics:
    """All of one model."""

    name: str
    version: str
    last_inference: Annotated[
        int, Field(description="When the last request was answered, milliseconds since 1970.")
    ] = 0
    inference_count: Annotated[int, Field(description="Images computed.")] = 0
    execution_count: Annotated[int, Field(description="Batches computed.")] = 0
    inference_stats: InferenceStatistics = field(default_factory=InferenceStatistics)
    response_stats: Annotated[
        dict[str, Duration], Field(description="Of models that answer several times: none.")
    ] = field(default_factory=dict)
    batch_stats: list[BatchStatistics] = field(default_factory=list)
    memory_usage: Annotated[list[Duration], Field(description="Not measured.")] = field(
        default_factory=list
    )

    def succeeded(self, answer: BatchedLogits, seconds: float) -> None:
        """Count a request that is answered, ``seconds`` after it came to the queue."""
        self.last_inference = time.time_ns() // 1_000_000
        self.inference_stats.success.add(seconds)
        self.inference_stats.queue.add(answer.queued)
        self.inference_stats.add(answer.batch)

    def failed(self, seconds: float) -> None:
        """Count a request that failed ``seconds`` after it came to the queue."""
        self.inference_stats.fail.add(seconds)

    def computed(self, times: BatchTimes) -> None:
        """Count a batch."""
        self.execution_count += 1
        self.inference_count += times.images
        batch = next((size for size in self.batch_stats if size.batch_size == times.images), None)
        if batch is None:
            batch = BatchStatistics(batch_size=times.images)
            self.batch_stats.append(batch)
            self.batch_stats.sort(key=lambda size: size.batch_size)
        batch.add(times)


@dataclass(slots=True)
class Statistics:
    """The extension's answer."""

    model_stats: list[ModelStatistics]
