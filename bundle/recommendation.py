"""Which artifact to ship on the exporting machine."""

from __future__ import annotations

from dataclasses import dataclass

from .latency import Latency
from .manifest import Artifact, Manifest

_FASTER = 1.05  # less is noise; and so is a gain at one batch size alone


@dataclass(frozen=True)
class Recommendation:
    """The artifact to ship on the machine that its latency was measured on, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"ship {self.file}: {self.reason}"


def recommend(manifest: Manifest) -> Recommendation | None:
    """The fastest artifact that passed; fp32 where nothing is faster at both batch sizes.

    None where no artifact that passed has a latency. Artifacts that were proven by emulation are
    not considered: this machine would not run them so.
    """
    timed = {
        artifact.file: (artifact, artifact.latency)
        for artifact in manifest.artifacts
        if artifact.status == "passed" and artifact.latency is not None and not artifact.emulated
    }
    if not timed:
        return None
    base, own = next(
        (pair for pair in timed.values() if pair[0].precision == "fp32"), _first(timed)
    )
    others = {
        artifact.precision: (artifact, own.ms_single / ms.ms_single, own.ms_batch / ms.ms_batch)
        for artifact, ms in timed.values()
        if artifact is not base
    }
    if not others:
        return Recommendation(base.file, "the only one measured here")
    faster = [each for each in others.values() if min(each[1:]) >= _FASTER]
    if not faster:
        ratios = ", ".join(
            f"{p} {one:.2f}x and {many:.2f}x" for p, (_, one, many) in others.items()
        )
        reason = f"nothing that passed is faster here at batch 1 and {own.batch} ({ratios})"
        return Recommendation(base.file, reason)
    best, speedup, _ = max(faster, key=lambda each: each[1])
    return Recommendation(best.file, _why(best, speedup))


def _first(timed: dict[str, tuple[Artifact, Latency]]) -> tuple[Artifact, Latency]:
    return next(iter(timed.values()))


def _why(artifact: Artifact, speedup: float) -> str:
    parity = artifact.parity
    gain = parity.artifact.top1 - parity.reference.top1
    return (
        f"{speedup:.2f}x as fast as fp32 at batch 1, top-1 {gain:+.2f} points, agreement "
        f"{parity.agreement:.2f} %"
    )
