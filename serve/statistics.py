"""What the protocol's statistics extension tells: counts and times since the service started."""

from __future__ import annotations

import time

from pydantic import BaseModel, Field

from .batcher import Answer, BatchTimes


class Duration(BaseModel):
    """How often something happened, and for how long in all."""

    count: int = 0
    ns: int = Field(default=0, description="Nanoseconds.")

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.ns += round(1e9 * seconds)


class ComputeDurations(BaseModel):
    """The parts of a computation."""

    compute_input: Duration = Field(default_factory=Duration, description="Host to device.")
    compute_infer: Duration = Field(default_factory=Duration)
    compute_output: Duration = Field(default_factory=Duration, description="Device to host.")

    def add(self, times: BatchTimes) -> None:
        """One more computation."""
        self.compute_input.add(times.host_to_device)
        self.compute_infer.add(times.compute)
        self.compute_output.add(times.device_to_host)


class InferenceStatistics(ComputeDurations):
    """Of requests; the parts of a computation count for each request in it."""

    success: Duration = Field(default_factory=Duration)
    fail: Duration = Field(
        default_factory=Duration, description="Refused by the queue, too late, or not computed."
    )
    queue: Duration = Field(default_factory=Duration)
    cache_hit: Duration = Field(default_factory=Duration, description="There is no cache.")
    cache_miss: Duration = Field(default_factory=Duration)


class BatchStatistics(ComputeDurations):
    """Of computations of one size."""

    batch_size: int


class ModelStatistics(BaseModel):
    """All of one model."""

    name: str
    version: str
    last_inference: int = Field(
        default=0, description="When the last request was answered, milliseconds since 1970."
    )
    inference_count: int = Field(default=0, description="Images computed.")
    execution_count: int = Field(default=0, description="Batches computed.")
    inference_stats: InferenceStatistics = Field(default_factory=InferenceStatistics)
    response_stats: dict[str, Duration] = Field(
        default_factory=dict, description="Of models that answer a request several times: none."
    )
    batch_stats: list[BatchStatistics] = Field(default_factory=list)
    memory_usage: list[Duration] = Field(default_factory=list, description="Not measured.")

    def succeeded(self, answer: Answer, seconds: float) -> None:
        """One more request is answered, ``seconds`` after it came to the queue."""
        self.last_inference = time.time_ns() // 1_000_000
        self.inference_stats.success.add(seconds)
        self.inference_stats.queue.add(answer.queued)
        self.inference_stats.add(answer.batch)

    def failed(self, seconds: float) -> None:
        """One more request is not, known after ``seconds``."""
        self.inference_stats.fail.add(seconds)

    def computed(self, times: BatchTimes) -> None:
        """One more batch."""
        self.execution_count += 1
        self.inference_count += times.images
        sizes = self.batch_stats
        batch = next((size for size in sizes if size.batch_size == times.images), None)
        if batch is None:
            batch = BatchStatistics(batch_size=times.images)
            self.batch_stats = sorted([*sizes, batch], key=lambda size: size.batch_size)
        batch.add(times)


class Statistics(BaseModel):
    """The extension's answer."""

    model_stats: list[ModelStatistics]
