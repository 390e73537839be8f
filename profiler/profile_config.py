"""Options of a profile; the defaults follow docs/design.md, section Latency."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Batch = Annotated[int, Field(ge=1, le=4096)]
Load = Annotated[float, Field(gt=0, lt=1)]


class ProfileConfig(BaseModel):
    """How `mldr-deploy profile` measures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtimes: tuple[str, ...] = Field(
        default=(), description="Runtimes to measure by name; none: every one that `auto` may take."
    )
    artifact: str | None = Field(
        default=None, description="Precision or file of the only artifact to measure; none: all."
    )
    batches: tuple[Batch, ...] = Field(
        default=(1, 2, 4, 8, 16, 32),
        min_length=1,
        description="Batch sizes; those above what parity was proven at are left out.",
    )
    rounds: int = Field(
        default=5,
        ge=1,
        le=100,
        description="How often everything is loaded, warmed up and measured anew, in turn; the "
        "spread between rounds is what `--compare` judges a change by.",
    )
    seconds: float = Field(
        default=3.0, gt=0, le=3600, description="Least measured time of a series, all its rounds."
    )
    iterations: int = Field(
        default=100,
        ge=2,
        le=1_000_000,
        description="Least measured calls of a series, all its rounds.",
    )
    warm_up_seconds: float = Field(
        default=3.0,
        gt=0,
        le=600,
        description="When a warm-up that does not become stable is given up, seconds.",
    )
    loads: tuple[Load, ...] = Field(
        default=(0.5, 0.8),
        description="Poisson arrivals of single images, as parts of what one after another would "
        "keep the runtime fully busy.",
    )
    encoding: Literal["JPEG", "PNG"] = Field(
        default="JPEG", description="What the images are decoded from."
    )
    layers: bool = Field(default=True, description="Whether time per layer is measured.")
    layer_calls: int = Field(
        default=30, ge=1, le=10_000, description="Calls that the time per layer is averaged over."
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads that compute; 0: one per usable core."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the arrivals.")
    max_cv: float = Field(
        default=2.5,
        gt=0,
        description="Coefficient of variation above which a series is called unsteady, per cent.",
    )

    def share(self) -> tuple[float, int]:
        """Least seconds and calls of one round of a series."""
        return self.seconds / self.rounds, -(-self.iterations // self.rounds)
