"""What the service counts, in Prometheus's form."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from .batcher import BatchTimes

_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10
)  # fmt: skip


class Metrics:
    """One service's counters; they are its own, so that two services in a process stay apart.

    With ``replica`` every sample carries it as a label: behind a proxy each reading of ``/metrics``
    comes from one of several services, and their counters must not be taken for one.
    """

    def __init__(self, replica: str | None = None) -> None:
        self._replica = replica
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mldr_requests",
            "Requests answered.",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self._rejections = Counter(
            "mldr_rejections", "Requests refused.", ["reason"], registry=self._registry
        )
        self._images = Counter("mldr_images", "Images computed.", registry=self._registry)
        self._batch = Histogram(
            "mldr_batch_images",
            "Images of a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=self._registry,
        )
        stages = Histogram(
            "mldr_stage_seconds",
            "Time of a stage: decode, preprocess, queue and total of a request; host_to_device, "
            "compute and device_to_host of a batch.",
            ["stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        names = ["decode", "preprocess", "queue", "total"]
        names += ["host_to_device", "compute", "device_to_host"]
        self._stages = {name: stages.labels(name) for name in names}
        self.queue = Gauge("mldr_queue_images", "Images waiting.", registry=self._registry)

    def answered(self, endpoint: str, status: int) -> None:
        """One more answer."""
        self._requests.labels(endpoint, str(status)).inc()

    def refused(self, reason: str) -> None:
        """One more refusal; ``reason`` as in RequestRefusal."""
        self._rejections.labels(reason).inc()

    def took(self, stage: str, seconds: float) -> None:
        """One more time of a stage."""
        self._stages[stage].observe(seconds)

    def computed(self, times: BatchTimes) -> None:
        """One more batch."""
        self._images.inc(times.images)
        self._batch.observe(times.images)
        self.took("host_to_device", times.host_to_device)
        self.took("compute", times.compute)
        self.took("device_to_host", times.device_to_host)

    def text(self) -> bytes:
        """The exposition that ``/metrics`` answers."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks a registry for."""
        for metric in self._registry.collect():
            if self._replica is not None:
                metric.samples = [
                    sample._replace(labels={**sample.labels, "replica": self._replica})
                    for sample in metric.samples
                ]
            yield metric
