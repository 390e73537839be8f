"""How the scales of a quantised artifact came about, as stored in the manifest.

See docs/design.md, section Precisions.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_RECORD = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Trial(BaseModel):
    """One way of choosing scales, judged on the validation split."""

    model_config = _RECORD

    method: str = Field(description="minmax, entropy or percentile.")
    top1: float = Field(ge=0, le=100, description="Top-1 accuracy on validation, per cent.")


class Quantization(BaseModel):
    """Calibration of an explicit Q/DQ graph."""

    model_config = _RECORD

    weights: str = Field(description="Type, form and granularity of the weights.")
    activations: str = Field(description="The same of the activations.")
    method: str = Field(description="How activation ranges became scales: the best trial.")
    trials: list[Trial] = Field(description="Every method that was tried.")
    calibration_images: int = Field(ge=1, description="Training images that were measured.")
    calibration_seed: int = Field(ge=0, description="Seed that drew them from the split.")
    validation_images: int = Field(
        ge=1, description="Images that methods and layers were judged on."
    )
    reference_top1: float = Field(ge=0, le=100, description="fp32 on those, per cent.")
    top1: float = Field(ge=0, le=100, description="The artifact on those, per cent.")
    quantised: list[str] = Field(description="Names of the ONNX nodes that compute quantised.")
    excluded: list[str] = Field(
        description="Nodes left in higher precision because validation showed them sensitive."
    )
