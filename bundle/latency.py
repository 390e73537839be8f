"""What a call costs on the exporting machine, and which artifact to ship there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from .manifest import Artifact, Manifest

_FASTER = 1.05  # less is noise


class Latency(BaseModel):
    """Medians, measured in turns with the other artifacts of the same bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ms_single: float = Field(gt=0, description="Milliseconds of a call with one image.")
    ms_batch: float = Field(gt=0, description="Milliseconds an image in calls of `batch`.")
    batch: int = Field(ge=1, description="Images in the larger call.")
    threads: int = Field(ge=1, description="Threads of the runtime.")
    machine: str = Field(description="Processor that it was measured on.")


@dataclass(frozen=True)
class Recommendation:
    """The artifact to ship on the machine that its latency was measured on, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"ship {self.file}: {self.reason}"


def recommend(manifest: Manifest) -> Recommendation | None:
    """The fastest artifact that passed; fp32 where nothing is faster than it.

    None where no artifact that passed has a latency. Artifacts that were proven by emulation are
    not considered: this machine would not run them so.
    """
    timed = [
        (artifact, artifact.latency.ms_single)
        for artifact in manifest.artifacts
        if artifact.status == "passed" and artifact.latency is not None and not artifact.emulated
    ]
    if not timed:
        return None
    base = next((pair for pair in timed if pair[0].precision == "fp32"), timed[0])
    best = min(timed, key=lambda pair: pair[1])
    if best[0] is base[0] or base[1] / best[1] < _FASTER:
        others = [
            f"{artifact.precision} {base[1] / ms:.2f}x"
            for artifact, ms in timed
            if artifact is not base[0]
        ]
        reason = f"nothing that passed is faster here ({', '.join(others)})" if others else ""
        return Recommendation(base[0].file, reason or "the only one measured here")
    return Recommendation(best[0].file, _why(best[0], base[1] / best[1]))


def _why(artifact: Artifact, speedup: float) -> str:
    parity = artifact.parity
    gain = parity.artifact.top1 - parity.reference.top1
    return (
        f"{speedup:.2f}x as fast as fp32 at batch 1, top-1 {gain:+.2f} points, agreement "
        f"{parity.agreement:.2f} %"
    )
