"""What a call costs on the exporting machine."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
