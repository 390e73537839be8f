"""What a student may cost on this machine, and the judge of what is within it."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

from ..bundle.wording import counted


class Budget(BaseModel):
    """Limits of one file on this machine's CPU. Prints itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_ms: float = Field(gt=0, description="Most milliseconds a call may take at the median.")
    max_mb: float | None = Field(
        default=None, gt=0, description="Largest file, 10^6 bytes; unset: no limit."
    )
    batch: int = Field(default=1, ge=1, le=4096, description="Images a call.")
    threads: int = Field(
        default=1, ge=0, le=1024, description="CPU threads that compute; 0: one per usable core."
    )

    def excess(self, milliseconds: float, size: int) -> str | None:
        """Why a file of ``size`` bytes is over the budget, with the figure; None: it is not."""
        reasons = []
        if milliseconds > self.max_ms:
            digits = next(d for d in range(4, 18) if float(f"{milliseconds:.{d}g}") > self.max_ms)
            reasons.append(f"{milliseconds:.{digits}g} ms, over {self.max_ms:g} ms")
        if self.max_mb is not None and size > 1e6 * self.max_mb:
            megabytes = math.ceil(size / 1e4) / 100  # never rounded below the limit it passes
            reasons.append(f"{megabytes:.2f} MB, over {self.max_mb:g} MB")
        return " and ".join(reasons) or None

    def __str__(self) -> str:
        size = "" if self.max_mb is None else f" and {self.max_mb:g} MB"
        threads = counted(self.threads, "thread") if self.threads else "all cores"
        return f"{self.max_ms:g} ms{size} at batch {self.batch} on {threads}"
