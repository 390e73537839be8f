"""Which artifact to ship: the one judge of it, for export, profile, serve, demo and card."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from .chance import AT_CHANCE
from .manifest import Artifact, Manifest
from .precisions import precision_named

_WORTH = 1.05  # a smaller gain is not worth a narrower precision
_HIDDEN = 1.25  # where noise could hide a gain as large as this, the machine is too noisy to tell
_STEADY = 10  # of so many rounds one may say the opposite
TOO_NOISY = "this machine is too noisy to tell which is fastest"


@dataclass(frozen=True)
class Timing:
    """How long calls of one artifact took, by rounds that every candidate went through in turns.

    Milliseconds, the median of each round; the k-th rounds of two candidates belong together.
    """

    file: str
    runtime: str | None  # None: the exporter's own
    single: Sequence[float]  # calls with one image
    batch: Sequence[float] = ()  # calls with several; empty: not measured


@dataclass(frozen=True)
class Choice:
    """The best candidate and its rivals."""

    best: Timing
    rivals: list[Timing]

    @property
    def noisy(self) -> bool:
        """Whether rounds contradict each other so much that another may well be the faster one."""
        spans = [span for rival in self.rivals for span in _spans(self.best, rival)]
        return any(low <= 1 and high >= _HIDDEN for low, _, high in spans)


class Recommendation(BaseModel):
    """What to ship on this machine; prints itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: str | None = Field(description="File of the bundle; None: none may be shipped.")
    runtime: str | None = Field(description="What is to run it.")
    reason: str = Field(description="Why, in one or two sentences.")
    noisy: bool = Field(
        default=False, description="Whether the machine was too noisy to tell which is fastest."
    )

    @property
    def headline(self) -> str:
        """The advice without its reason, doubt included."""
        if self.file is None:
            return "Ship nothing yet"
        place = self.file if self.runtime is None else f"{self.file} in {self.runtime}"
        if not self.noisy:
            return f"Ship {place}"
        return f"{TOO_NOISY.capitalize()}; the safe choice is {place}"

    def __str__(self) -> str:
        return f"{self.headline}: {self.reason}"


def objection(manifest: Manifest, artifact: Artifact) -> str | None:
    """Why ``artifact`` may not be shipped for this machine; None: it may."""
    reason = defect(manifest, artifact)
    if reason is None and artifact.caveat:
        return f"{artifact.file} is not for this machine: {artifact.caveat}"
    return reason


def defect(manifest: Manifest, artifact: Artifact) -> str | None:
    """Why ``artifact`` may not be shipped anywhere; None: it may."""
    if manifest.at_chance:
        return AT_CHANCE
    if artifact.status == "failed":
        return f"{artifact.file} failed its parity gate"
    if (doubt := artifact.parity.doubt) is not None:
        return f"{artifact.file}: {doubt}"
    if artifact.emulated:
        return f"{artifact.file}: parity was proven by emulated {artifact.precision}, by no runtime"
    return None


def shippable(manifest: Manifest) -> dict[str, Artifact]:
    """The artifacts that may be shipped, by file."""
    return {a.file: a for a in manifest.artifacts if objection(manifest, a) is None}


def recommend(manifest: Manifest, timings: Sequence[Timing]) -> Recommendation | None:
    """The fastest artifact that may be shipped; of those level with it the widest.

    None where nothing was timed. The machine's noise decides what is level: see ``_slower``.
    """
    if not timings:
        return None
    artifacts = shippable(manifest)
    fit = [timing for timing in timings if timing.file in artifacts]
    if not fit:
        timed = {timing.file for timing in timings}
        candidates = [a for a in manifest.artifacts if a.file in timed or manifest.at_chance]
        objections = dict.fromkeys(filter(None, (objection(manifest, a) for a in candidates)))
        reason = "; ".join(objections) or "nothing that may be shipped was measured"
        return Recommendation(file=None, runtime=None, reason=reason)
    choice = choose(fit, artifacts)
    return Recommendation(
        file=choice.best.file,
        runtime=choice.best.runtime,
        reason=_reason(choice, artifacts),
        noisy=choice.noisy,
    )


def recommended(manifest: Manifest) -> Recommendation | None:
    """The artifact to ship on the exporting machine, by the latencies of the manifest.

    None where it has none.
    """
    timings = [
        Timing(
            artifact.file,
            None,
            latency.rounds_single or [latency.ms_single],
            latency.rounds_batch or [latency.ms_batch],
        )
        for artifact in manifest.artifacts
        if (latency := artifact.latency) is not None
    ]
    return recommend(manifest, timings)


def choose(timings: Sequence[Timing], artifacts: dict[str, Artifact]) -> Choice:
    """Of candidates that may all be taken, the widest that is level with the fastest.

    Where the width is the same, the more accurate one, then the faster one.
    """
    fastest = min(timings, key=lambda timing: statistics.median(timing.single))
    level = [timing for timing in timings if not _slower(timing, fastest)]

    def merit(timing: Timing) -> tuple[int, float, float]:
        artifact = artifacts[timing.file]
        top1 = artifact.parity.artifact.top1
        return _width(artifact), top1, -statistics.median(timing.single)

    best = max(level, key=merit)
    return Choice(best, [timing for timing in timings if timing is not best])


def _width(artifact: Artifact) -> int:
    return precision_named(artifact.precision).width


def _slower(slow: Timing, fast: Timing) -> bool:
    """Whether ``slow`` is slower, for one image and for several.

    That is: by 5 % at the median, and in nine rounds of ten. Anything less is inside the noise, or
    not worth a narrower precision.
    """
    return all(low > 1 and middle >= _WORTH for low, middle, _ in _spans(slow, fast))


def _spans(timing: Timing, reference: Timing) -> list[tuple[float, float, float]]:
    """How many times as long as ``reference`` a call took, for one image and for several.

    Lowest, median and highest of the rounds, one in ten of which may lie outside on either side.
    """
    spans = []
    for pair in ((timing.single, reference.single), (timing.batch, reference.batch)):
        ratios = sorted(a / b for a, b in zip(*pair, strict=False))
        outside = len(ratios) // _STEADY
        if ratios:
            spans.append((ratios[outside], statistics.median(ratios), ratios[-1 - outside]))
    return spans


def _reason(choice: Choice, artifacts: dict[str, Artifact]) -> str:
    best, rivals = choice.best, choice.rivals
    if not rivals:
        return "the only one that was measured and may be shipped"

    def name(timing: Timing) -> str:
        precision = artifacts[timing.file].precision
        if sum(artifacts[t.file].precision == precision for t in (best, *rivals)) > 1:
            precision = timing.file
        return precision if timing.runtime == best.runtime else f"{precision} in {timing.runtime}"

    speeds = {
        name(rival): _spans(rival, best)[0][1]  # times as long as the best
        for rival in sorted(rivals, key=lambda rival: -_width(artifacts[rival.file]))
    }
    parity = artifacts[best.file].parity
    gain = parity.artifact.top1 - parity.reference.top1
    proof = f"top-1 {gain:+.2f} points, agreement {parity.agreement:.2f} %"
    if _width(artifacts[best.file]) < max(_width(artifacts[rival.file]) for rival in rivals):
        widest, ratio = next(iter(speeds.items()))
        return f"{ratio:.2f}x as fast as {widest} at batch 1, {proof}"
    compared = ", ".join(f"{rival} {1 / ratio:.2f}x" for rival, ratio in speeds.items())
    return f"nothing that may be shipped is faster beyond noise ({compared} as fast at batch 1)"
