"""How int8 and fp8 artifacts come about."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Method = Literal["minmax", "entropy", "percentile"]


class QuantizeConfig(BaseModel):
    """Calibration of int8 and fp8 graphs, and the search for layers that do not bear it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[Method, ...] = Field(
        default=("minmax", "entropy", "percentile"),
        min_length=1,
        description="Ways to make a scale of the measured activations; all are tried, and the one "
        "with the best validation accuracy is kept.",
    )
    percentile: float = Field(
        default=99.99,
        gt=50,
        le=100,
        description="Share of the values inside the range of method `percentile`, per cent.",
    )
    validation_images: int = Field(
        default=2000, ge=8, description="Validation images that methods and layers are judged on."
    )
    target_drop: float = Field(
        default=0.5,
        ge=0,
        le=100,
        description="Drop of validation top-1 that the search aims at, points. Tighter than the "
        "gate, which is held on other images.",
    )
    effect_images: int = Field(
        default=128,
        ge=8,
        description="Validation images on which the effect of each layer alone is measured, where "
        "the best method misses `target_drop`.",
    )
    max_excluded: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Largest part of the layers that may be left in higher precision: the most "
        "sensitive one, then two, four and so on, until `target_drop` is met.",
    )
    reduce_range: bool = Field(
        default=False,
        description="Weights of 7 bits: for x86 processors without VNNI, where sums of 8-bit "
        "products saturate.",
    )

    @field_validator("methods")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"each once, not {', '.join(value)}")
        return value
