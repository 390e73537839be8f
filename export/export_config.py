"""The settings of an export: the recipe's section ``export``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..bundle.precisions import PRECISIONS, listed
from ..bundle.targets import TARGETS, listed_targets
from .calibration import CalibrationConfig
from .gates import Gates
from .precision.islands import IslandConfig
from .precision.precision_config import QuantizeConfig
from .tensorrt.engine_config import EngineConfig


class ExportConfig(BaseModel):
    """How a trained student becomes a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    opset: int = Field(default=20, ge=18, le=23, description="ONNX operator set.")
    max_batch: int = Field(
        default=64, ge=2, le=4096, description="Largest batch, images; parity is proven at it."
    )
    precisions: tuple[Literal[*PRECISIONS], ...] = Field(  # type: ignore[valid-type]
        default=("fp32",),
        min_length=1,
        description=f"Artifacts to write: {listed('`')}.",
    )
    targets: tuple[Literal[*TARGETS], ...] = Field(  # type: ignore[valid-type]
        default=("onnx",),
        min_length=1,
        description=f"What runs the artifacts: {listed_targets('`')}. Each is written in those of "
        "the precisions that it has.",
    )
    calibration: CalibrationConfig = Field(
        default=CalibrationConfig(), description="Images that ranges are measured on."
    )
    islands: IslandConfig = Field(
        default=IslandConfig(), description="What stays in fp32 in fp16 and bf16 graphs."
    )
    quantize: QuantizeConfig = Field(
        default=QuantizeConfig(), description="How int8 and fp8 are calibrated."
    )
    engine: EngineConfig = Field(
        default=EngineConfig(), description="How TensorRT engines are built."
    )
    golden: int = Field(
        default=16,
        ge=8,
        le=256,
        description="Test images that the bundle carries, as fed and with their logits.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="Threads for parity, of ONNX Runtime and of PyTorch; 0: one per core.",
    )
    latency_seconds: float = Field(
        default=0.5,
        ge=0,
        le=60,
        description="Time for the latency of each artifact at batch 1 and again at 16, where there "
        "are several to compare; 0: not measured.",
    )
    teacher_distance: float = Field(
        default=5.0,
        ge=0,
        description="Points of validation top-1 that the student may lie below its teacher before "
        "summary, card, report and demo say so.",
    )
    labels_alone: str | None = Field(
        default=None,
        description="Folder of the same student trained by labels alone (method.name=scratch; "
        "RUN/student/trained): one that is better is said beside the other figures.",
    )
    bisect: bool = Field(
        default=True, description="After a failed gate, search the first node out of band."
    )
    gates: Gates = Field(default=Gates(), description="What each precision may deviate.")

    @field_validator("precisions", "targets")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"each once, not {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _paired(self) -> ExportConfig:
        """Refuse a target or a precision that nothing would be written of."""
        for target in self.targets:
            if not any(target == paired for paired, _ in self.pairs):
                raise ValueError(TARGETS[target].lacks(self.precisions[0]))
        for precision in self.precisions:
            if not any(precision == paired for _, paired in self.pairs):
                raise ValueError("; ".join(TARGETS[name].lacks(precision) for name in self.targets))
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The artifacts that are named, as (target, precision)."""
        return [
            (target, precision)
            for target in self.targets
            for precision in self.precisions
            if precision in TARGETS[target].precisions
        ]
