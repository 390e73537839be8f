"""Options of the demo."""

from __future__ import annotations

from pydantic import Field

from ..runtimes.runtime_choice import AUTO
from ..serve.service_config import MiB, UploadLimits

HOST = "127.0.0.1"  # the demo has no authentication, so it listens to this machine alone


class DemoConfig(UploadLimits):
    """Options of `mldr-deploy demo`; limits of uploads are the HTTP service's."""

    port: int = Field(default=7860, ge=0, le=65535, description="Port; 0 takes a free one.")
    runtime: str = Field(
        default=AUTO, description="What runs the artifacts; auto takes the fastest proven here."
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads that compute; 0: one per usable core."
    )
    max_files: int = Field(default=5000, ge=1, le=100_000, description="Most images of one batch.")
    max_unpacked_mib: float = Field(
        default=512.0,
        ge=0.001,
        le=1 << 16,
        description="Most bytes that a zip archive may unpack to, MiB.",
    )

    @property
    def max_unpacked(self) -> int:
        """Bytes."""
        return int(self.max_unpacked_mib * MiB)
