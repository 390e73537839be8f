"""What the proof of a trained student says of its files, and which of them may be shipped."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ..compare.units import Unit
from .choice_plan import ChoicePlan
from .untrained import UntrainedLatency


class ProvenFile(BaseModel):
    """One file of a student's bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(description="Its name in the bundle.")
    test_top1: float = Field(description="Top-1 on the test split, per cent.")
    bytes: int = Field(description="Its size.")
    latency: UntrainedLatency = Field(description="Measured again, trained.")
    objection: str | None = Field(description="Why it may not be shipped; null: it may.")


ProvenFiles = dict[str, ProvenFile]  # by precision


def proof_name(student: str) -> str:
    """Name of the unit that exports and proves ``student``."""
    return f"proof of {student}"


def proven_files(unit: Unit) -> ProvenFiles:
    """The files of a finished proof."""
    precisions = {k: v for k, v in unit.outcome.items() if isinstance(v, dict)}
    return {name: ProvenFile(**entry) for name, entry in precisions.items()}


def shipped(plan: ChoicePlan, name: str, files: ProvenFiles) -> tuple[str | None, str]:
    """The widest precision of student ``name`` that may be shipped, or None and why.

    It must be within the budget by the latency before training, by the fastest round after it
    (noise only adds), and by the size after it.
    """
    entrant, budget = plan.entrant(name), plan.request.budget
    reasons = []
    for precision in sorted(entrant.precisions, key=lambda name: name != "fp32"):
        file = files.get(precision)
        if file is None:
            continue
        before, after = entrant.latencies[precision].milliseconds, min(file.latency.rounds)
        over = budget.excess(max(before, after), file.bytes)
        problem = over or file.objection
        if problem is None:
            return precision, ""
        reasons.append(f"{precision}: {problem}")
    return None, "; ".join(reasons)
