"""Options of Ray Serve that a service in one process does not have."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RayConfig(BaseModel):
    """Options of `mldr-deploy serve --engine ray`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int = Field(
        default=1, ge=1, le=10_000, description="Replicas of the service that are always there."
    )
    max_replicas: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Most replicas when load grows; 0: no more than `replicas`.",
    )
    max_ongoing: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Requests that a replica holds at a time; 0: twice its largest batch, so that "
        "one fills while the other is computed.",
    )
    max_queued_requests: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Most requests that wait at a proxy for a replica; beyond it they are answered "
        "503 with Retry-After.",
    )
    gpus: float = Field(
        default=0.0, ge=0, le=16, description="GPUs of each replica; a part of one is shared."
    )
    address: str | None = Field(
        default=None,
        description="A running Ray cluster, or auto for the one of this machine; none: Ray is "
        "started here and stopped at the end.",
    )

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.max_replicas and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below replicas {self.replicas}")
        return self
