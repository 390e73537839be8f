"""Which artifact to ship on this machine: the fastest whose gate passed."""

from __future__ import annotations

from ..bundle.precisions import precision_named
from .change import changed
from .report import Entry, Recommendation
from .request_stages import END_TO_END

WEIGHTS = "weights"  # format of the bare weights, which PyTorch runs as the reference


def recommend(entries: list[Entry]) -> Recommendation:
    """By the median end to end at batch 1. What cannot be told apart goes to the wider precision,
    so that int8 is named only where it is really faster; then to the higher accuracy."""
    fit = [one for one in entries if one.status == "passed" and one.format != WEIGHTS]
    if not fit:
        return Recommendation(
            file=None, runtime=None, reason="No artifact that ran here passed its parity gate."
        )
    fastest = min(fit, key=_p50)
    level = [one for one in fit if one is fastest or not _slower(one, fastest)]
    best = max(
        level, key=lambda one: (precision_named(one.precision).width, one.accuracy.top1, -_p50(one))
    )
    return Recommendation(file=best.file, runtime=best.runtime, reason=_reason(best, fastest, fit))


def _p50(entry: Entry) -> float:
    return entry.first.end_to_end.p50


def _slower(entry: Entry, fastest: Entry) -> bool:
    """Whether it is beyond doubt; with too few rounds to tell, the figures as they are count."""
    before = [one.samples(END_TO_END) for one in fastest.first.rounds]
    after = [one.samples(END_TO_END) for one in entry.first.rounds]
    found = changed(before, after, percent=50)
    return found.ratio > 1.01 if found.verdict is None else found.verdict == "slower"


def _reason(best: Entry, fastest: Entry, fit: list[Entry]) -> str:
    latency = f"{_p50(best):.3g} ms at the median, top-1 {best.accuracy.top1:.2f} %"
    if len(fit) == 1:
        return f"The only artifact that passed its gate and ran here: {latency}."
    if best is fastest:
        others = [_p50(one) for one in fit if one is not best]
        return (
            f"The fastest of {len(fit)} that passed their gates: {latency}; "
            f"the next takes {min(others) / _p50(best):.2f} times as long."
        )
    return (
        f"{latency}; {fastest.name} ({_p50(fastest):.3g} ms) is not faster beyond noise, and this "
        "one computes in the wider precision or is more accurate."
    )
