"""The settings of an engine build: the recipe's section ``export.engine``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Compute capabilities that TensorRT-RTX 1.7 builds for.
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


class EngineConfig(BaseModel):
    """How an ONNX file becomes a TensorRT engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    opt_batch: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Batch that kernels are chosen for, images; at most `max_batch` counts.",
    )
    hardware: Literal["none", "same-compute-capability", "ampere-plus"] = Field(
        default="none",
        description="Other GPUs that the engine must run on; each step costs speed.",
    )
    version_compatible: bool = Field(
        default=False,
        description="Let newer TensorRT versions of the same major version run it; larger file.",
    )
    effort: int = Field(
        default=3,
        ge=0,
        le=5,
        description="TensorRT's builder optimisation level: higher builds longer and runs faster.",
    )
    workspace_mib: int = Field(
        default=0,
        ge=0,
        le=1 << 20,
        description="Scratch memory a kernel may ask for, MiB; 0: all that the GPU has.",
    )
    timing_cache: bool = Field(
        default=True,
        description="Keep measured kernel times in the user's cache folder, by GPU, driver and "
        "TensorRT version, so that the next build is faster.",
    )
    capabilities: tuple[str, ...] = Field(
        default=("8.0", "8.6", "8.9", "12.0"),
        min_length=1,
        description="Compute capabilities that a TensorRT-RTX engine is built for, of "
        f"{', '.join(RTX_CAPABILITIES)}.",
    )
    device: int = Field(default=0, ge=0, le=255, description="Number of the GPU to build on.")

    @field_validator("capabilities")
    @classmethod
    def _of_rtx(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for capability in value:
            if capability not in RTX_CAPABILITIES:
                raise ValueError(
                    f"no TensorRT-RTX engine is built for {capability}, only for "
                    f"{', '.join(RTX_CAPABILITIES)}: other GPUs (9.0 is Hopper) need the target "
                    "tensorrt, built where it runs"
                )
        if len(set(value)) != len(value):
            raise ValueError(f"each once, not {', '.join(value)}")
        return value
