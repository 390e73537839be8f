"""Options of the HTTP service."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..runtimes.runtime_choice import AUTO
from .origin import browsers_origin

MiB = 1 << 20
Origin = Annotated[str, AfterValidator(browsers_origin)]


class UploadLimits(BaseModel):
    """How large an upload may be, for everything that takes one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_upload_mib: float = Field(
        default=16.0,
        ge=0.001,
        le=1024,
        description="Largest upload, MiB: an image, a JSON request, the demo's zip archive.",
    )
    max_megapixels: float = Field(
        default=25.0,
        ge=0.000001,
        le=500,
        description="Largest image, millions of pixels; read from its header, before anything is "
        "decoded.",
    )

    @property
    def max_upload(self) -> int:
        """Bytes."""
        return int(self.max_upload_mib * MiB)

    @property
    def max_pixels(self) -> int:
        """Pixels."""
        return int(self.max_megapixels * 1e6)


class ServeConfig(UploadLimits):
    """Options of `mldr-deploy serve`; the bounds keep one machine's memory bounded too."""

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. The default is reached from this machine only; there is "
        "no authentication, so put a proxy that has one before any other address.",
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    runtime: str = Field(
        default=AUTO,
        description="What runs the artifact; auto takes the fastest that is proven here.",
    )
    artifact: str | None = Field(
        default=None, description="Precision or file of the artifact to serve; none: the fastest."
    )
    name: str | None = Field(
        default=None, description="Name of the model in URLs; none: the student's own."
    )
    cors: tuple[Origin, ...] = Field(
        default=(), description="Origins whose pages may call the service from a browser."
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads that compute; 0: one per usable core."
    )
    max_batch: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Most images computed at once; 0, and at most, what parity was proven at.",
    )
    max_queue: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Most images waiting; beyond it requests are answered 503 with Retry-After.",
    )
    max_delay_ms: float = Field(
        default=0.0,
        ge=0,
        le=60_000,
        description="Time that a batch which is not full waits for more, milliseconds. 0 starts at "
        "once; batches still grow while the one before is computed.",
    )
    deadline: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="Time from a request's last byte to its answer, seconds; then 503.",
    )
    body_timeout: float = Field(
        default=300.0, gt=0, le=3600, description="Time that a request may take to arrive, seconds."
    )
    body_pace: float = Field(
        default=8.0,
        gt=0,
        le=3600,
        description="Time that every 64 KiB of a request's body may take, seconds; then 408.",
    )
    head_timeout: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="Time that a request's line and headers may take to arrive, and every 64 KiB "
        "of an answer to be read, seconds; then the connection is closed.",
    )
    keep_alive: int = Field(
        default=75,
        ge=1,
        le=3600,
        description="Time that an answered connection is kept for the next request, seconds; "
        "longer than a load balancer keeps it, commonly 60.",
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Most connections; a new one takes the place of the oldest that waits, of the "
        "address with most connections.",
    )
    max_in_flight_mib: float = Field(
        default=256.0,
        ge=0.001,
        le=1 << 20,
        description="Most bytes that all requests being received or computed have brought, "
        "MiB; then 503.",
    )
    top_k: int = Field(
        default=5, ge=1, le=100_000, description="Labels in an answer that does not ask for more."
    )
    grace: int = Field(
        default=30,
        ge=0,
        le=3600,
        description="Time that accepted requests have to finish after a stop signal, seconds.",
    )

    @property
    def max_in_flight(self) -> int:
        """Bytes."""
        return int(self.max_in_flight_mib * MiB)
