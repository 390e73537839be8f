"""The judge of a choice: who wins, who was dropped why, and what lies on either side of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from ..bundle.shipping import TOO_NOISY
from ..bundle.targets import TARGETS
from ..bundle.wording import counted, figure
from ..errors import MldrError
from .choice_plan import ChoicePlan, Entrant
from .halving import HalvingRound, RoundScore, better, furthest
from .proof import ProvenFile, ProvenFiles, proof_name, shipped
from .untrained import NOISY


class TableRow(BaseModel):
    """One file of one student that was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The student.")
    family: str = Field(description="Its family.")
    precision: str = Field(description="Of the file.")
    milliseconds: float = Field(description="Measured before training.")
    megabytes: float = Field(description="Size, 10^6 bytes; of a proven file its own.")
    excess: str | None = Field(description="Why it is over the budget; null: it is not.")
    epochs: float = Field(description="Of its longest training.")
    val_top1: float = Field(description="Validation top-1 of that training, in fp32, per cent.")
    test_top1: float | None = Field(description="Of the proven file; null: it was not exported.")
    front: bool = Field(description="Whether no other file is as accurate, as fast and as small.")


class StudentChoice(BaseModel):
    """What was chosen and why. OUT/choice.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: ChoicePlan = Field(description="What was settled before training.")
    rounds: list[HalvingRound] = Field(description="The rounds as they were carried out.")
    scores: list[list[RoundScore]] = Field(description="Of every round, best first.")
    winner: str = Field(description="The chosen student.")
    precision: str = Field(description="The precision to ship.")
    proofs: dict[str, dict[str, ProvenFile]] = Field(description="Finalists' files.")
    table: list[TableRow] = Field(description="Every file of every trained student.")
    dropped: dict[str, str] = Field(description="Why each other was not chosen.")
    next_faster: str | None = Field(description="The best that is faster, in words.")
    next_more_accurate: str | None = Field(description="What would be more accurate, in words.")
    warnings: list[str] = Field(description="What a reader must know before trusting it.")

    @property
    def entrant(self) -> Entrant:
        """The winner."""
        return self.plan.entrant(self.winner)

    @property
    def proof(self) -> ProvenFile:
        """The file to ship."""
        return self.proofs[self.winner][self.precision]

    @property
    def row(self) -> TableRow:
        """The table's row of it."""
        key = self.winner, self.precision
        return next(row for row in self.table if (row.name, row.precision) == key)

    def __str__(self) -> str:
        row, proof = self.row, self.proof
        return (
            f"{self.winner} in {self.precision}: test top-1 {proof.test_top1:.2f} %, "
            f"{figure(row.milliseconds)} ms, {row.megabytes:.2f} MB; the most accurate of "
            f"{counted(len(self.plan.entrants), 'student')} within {self.plan.request.budget}"
        )


Proofs = dict[str, ProvenFiles]  # by student


def verdict(
    plan: ChoicePlan,
    rounds: list[HalvingRound],
    scores: list[list[RoundScore]],
    proofs: Proofs,
    failed: dict[str, str],
    omission: str | None = None,
) -> StudentChoice:
    """The first of the last round's ranking of which a file within the budget may be shipped.

    Where none of them may, the best of the rounds before that was proven, with a warning. Of
    several such files the widest; ``omission``: why rounds were left out, if some were. Raises
    MldrError where there is none.
    """
    finalists = {score.name for score in better(scores[-1])}
    refusals: dict[str, str] = {}
    for score, _ in furthest(scores):
        reason = failed.get(proof_name(score.name))
        if reason is None and score.name in finalists:
            reason = "no file was exported"
        if files := proofs.get(score.name, {}):
            precision, reason = shipped(plan, score.name, files)
            if precision is not None:
                break
        if reason is not None:
            refusals[score.name] = reason
    else:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals.items())
        raise MldrError(
            f"no student is left that may be shipped ({reasons}): give a larger budget (--max-ms, "
            "--max-mb) or other --students"
        )
    table = table_rows(plan, rounds, scores, proofs)
    winner = score.name
    return StudentChoice(
        plan=plan,
        rounds=rounds,
        scores=scores,
        winner=winner,
        precision=precision,
        proofs=proofs,
        table=table,
        dropped=_dropped(plan, rounds, scores, winner, refusals, failed),
        next_faster=_next_faster(plan, rounds, scores, winner, precision, refusals),
        next_more_accurate=_next_more_accurate(plan, scores, winner),
        warnings=[
            *([omission] if omission else []),
            *_earlier(rounds, scores, winner, refusals),
            *_warnings(plan, winner, precision, proofs),
        ],
    )


def _earlier(
    rounds: Sequence[HalvingRound],
    scores: Sequence[Sequence[RoundScore]],
    winner: str,
    refusals: dict[str, str],
) -> Iterator[str]:
    """What a winner that the last round does not have is worth."""
    number = next(number for score, number in furthest(scores) if score.name == winner)
    if number < len(scores) - 1:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals.items())
        yield (
            f"{winner} trained for {counted(rounds[number].epochs, 'epoch')} only, in round "
            f"{number + 1}: none of those that went further may be shipped ({reasons}); train it "
            "longer, compare.toml has its recipe"
        )


def table_rows(
    plan: ChoicePlan,
    rounds: Sequence[HalvingRound],
    scores: Sequence[Sequence[RoundScore]],
    proofs: Proofs,
) -> list[TableRow]:
    """A row a file, by the rounds that its student reached, then by accuracy."""
    rows = []
    for score, number in furthest(scores):
        entrant = plan.entrant(score.name)
        for precision, latency in entrant.latencies.items():
            proof = proofs.get(score.name, {}).get(precision)
            size = latency.bytes if proof is None else proof.bytes
            excess = plan.request.budget.excess(latency.milliseconds, size)
            rows.append(
                TableRow(
                    name=entrant.name,
                    family=entrant.family,
                    precision=precision,
                    milliseconds=latency.milliseconds,
                    megabytes=size / 1e6,
                    excess=entrant.excess.get(precision, excess),
                    epochs=rounds[number].epochs,
                    val_top1=score.top1,
                    test_top1=None if proof is None else proof.test_top1,
                    front=not _dominated(scores, plan, score, number, precision),
                )
            )
    return rows


def _dominated(
    scores: Sequence[Sequence[RoundScore]],
    plan: ChoicePlan,
    score: RoundScore,
    number: int,
    precision: str,
) -> bool:
    """Whether a file of the same round is as accurate, as fast and as small, and better in one.

    In round ``number`` both students had the same training; int8 counts with fp32's accuracy.
    """
    file = plan.entrant(score.name).latencies[precision]
    merits = (score.top1, -file.milliseconds, -file.bytes)
    for rival in scores[number]:
        for latency in plan.entrant(rival.name).latencies.values():
            rival_merits = (rival.top1, -latency.milliseconds, -latency.bytes)
            if rival_merits != merits and all(
                a >= b for a, b in zip(rival_merits, merits, strict=True)
            ):
                return True
    return False


def _dropped(
    plan: ChoicePlan,
    rounds: Sequence[HalvingRound],
    scores: Sequence[Sequence[RoundScore]],
    winner: str,
    refusals: dict[str, str],
    failed: dict[str, str],
) -> dict[str, str]:
    """Why each student but the winner was not chosen."""
    reasons: dict[str, str] = {}
    for score, number in furthest(scores):
        halving, best = rounds[number], scores[number][0]
        place = scores[number].index(score) + 1
        reasons[score.name] = refusals.get(
            score.name,
            f"place {place} of {len(scores[number])} in round {number + 1} "
            f"({counted(halving.epochs, 'epoch')}): validation top-1 {score.top1:.2f} %, "
            f"{best.name} {best.top1:.2f} %",
        )
    for name, reason in failed.items():
        student, _, where = name.rpartition(", ")
        if student in {entrant.name for entrant in plan.entrants}:
            before = f"; before it {reasons[student]}" if student in reasons else ""
            reasons[student] = f"its training failed in {where}: {reason}{before}"
    for entrant in plan.entrants:
        reasons.setdefault(entrant.name, "its training did not end; the same command tries again")
    for entrant in plan.outside:
        reasons[entrant.name] = "; ".join(f"{p}: {reason}" for p, reason in entrant.excess.items())
    reasons |= plan.misfits
    reasons.pop(winner)
    return reasons


def _next_faster(
    plan: ChoicePlan,
    rounds: Sequence[HalvingRound],
    scores: Sequence[Sequence[RoundScore]],
    winner: str,
    precision: str,
    refusals: dict[str, str],
) -> str | None:
    """The best that is faster and was not refused, in words."""
    limit = plan.entrant(winner).latencies[precision].milliseconds
    for score, number in furthest(scores):
        if score.name not in (winner, *refusals) and score.milliseconds < limit:
            return (
                f"{score.name}: {figure(score.milliseconds)} ms; validation top-1 "
                f"{score.top1:.2f} % after {counted(rounds[number].epochs, 'epoch')}"
            )
    return None


def _next_more_accurate(
    plan: ChoicePlan, scores: Sequence[Sequence[RoundScore]], winner: str
) -> str | None:
    """A more accurate finalist that may not be shipped, else who is least over the budget."""
    best = scores[-1][0]
    if best.name != winner:
        return f"{best.name}: validation top-1 {best.top1:.2f} %, but no file that may be shipped"
    size = plan.entrant(winner).operations
    larger = [entrant for entrant in plan.outside if entrant.operations > size]
    if not larger:
        return None
    nearest = min(larger, key=lambda entrant: entrant.fastest.milliseconds)
    return (
        f"perhaps {nearest.name}, the fastest of the larger ones that are over the budget: "
        f"{figure(nearest.fastest.milliseconds)} ms, {nearest.fastest.bytes / 1e6:.2f} MB; it was "
        "not trained"
    )


def _warnings(plan: ChoicePlan, winner: str, precision: str, proofs: Proofs) -> Iterator[str]:
    noisy = [
        (latency.spread, f"{entrant.name} {name}")
        for entrant in (*plan.entrants, *plan.outside)
        for name, latency in entrant.latencies.items()
        if latency.noisy
    ]
    if noisy:
        spread, worst = max(noisy)
        yield (
            f"{TOO_NOISY}: in {counted(len(noisy), 'file')} the rounds differ by "
            f"{100 * (NOISY - 1):.0f} % or more (at most {100 * (spread - 1):.0f} %, {worst}); "
            "the choice is then the more accurate, by the medians"
        )
    if caveat := TARGETS[plan.request.target].caveat:
        yield f"{caveat}: the milliseconds are this machine's, not a phone's"
    budget, file = plan.request.budget, proofs[winner][precision]
    before = plan.entrant(winner).latencies[precision]
    if (over := budget.excess(file.latency.milliseconds, file.bytes)) is not None:
        yield (
            f"measured again after training, {winner} {precision} has {over} (before training "
            f"{figure(before.milliseconds)} ms, {before.bytes / 1e6:.2f} MB)"
        )
