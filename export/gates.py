"""The default gates of every precision, in one table (docs/design.md, section Parity)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ..bundle.parity import Gate


class Gates(BaseModel):
    """One gate per precision. An artifact is held against the one of its precision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fp32: Gate = Field(
        default=Gate(min_agreement=100, max_dlogit=1e-3, max_relative=5e-5), description="fp32."
    )
    fp16: Gate = Field(
        default=Gate(max_drop=0.2, max_relative=2e-2, band=2e-2), description="fp16."
    )
    bf16: Gate = Field(
        default=Gate(max_drop=0.2, max_relative=1e-1, band=1e-1), description="bf16."
    )
    int8: Gate = Field(default=Gate(max_drop=1.0, band=3e-1), description="int8.")
    fp8: Gate = Field(default=Gate(max_drop=1.0, band=3e-1), description="fp8.")

    def of(self, precision: str) -> Gate:
        """The gate of ``precision``, a field of this class; `int8-symmetric` has that of `int8`."""
        gate = getattr(self, precision.partition("-")[0])
        assert isinstance(gate, Gate)
        return gate
