"""The rounds of a choice, as runs that any process may take, and the proof of the finalists.

OUT/teacher/                 the teacher's run, whose logits all rounds share
OUT/rounds/K/NAME/           a student's run in round K; of finalists also bundle/ and proof.json
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ..bundle.progress import Progress
from ..bundle.shipping import defect
from ..bundle.wording import counted
from ..compare.outcomes import Outcome, teacher_outcome, tuning_outcome
from ..compare.recent_data import RecentData
from ..compare.units import Unit
from ..compare.workers import Failures, Work, failure, work
from ..errors import MldrError
from ..pipeline.phases import Pipeline
from ..pipeline.recipe import Recipe
from .choice_plan import ChoicePlan, Entrant
from .halving import HalvingRound, RoundScore, better, fitting, ranking
from .hours_left import HoursLeft
from .request import student_recipe
from .untrained import UntrainedLatency, time_files

_PROOF = "proof.json"
_LONGER = 1.5  # times the epochs of the round before: less would say nothing new


class ProvenFile(BaseModel):
    """One file of a finalist's bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(description="Its name in the bundle.")
    test_top1: float = Field(description="Top-1 on the test split, per cent.")
    bytes: int = Field(description="Its size.")
    latency: UntrainedLatency = Field(description="Measured again, trained.")
    objection: str | None = Field(description="Why it may not be shipped; null: it may.")


class Contest:
    """The rounds of ``plan`` in ``out``."""

    def __init__(
        self, plan: ChoicePlan, base: Recipe, out: Path, data: RecentData, train: Work
    ) -> None:
        self.plan, self.base, self.out, self.data = plan, base, out, data
        self._train = train  # carries out the rounds
        self.hours = HoursLeft(out, plan.request.hours)
        self.teacher = Unit(
            name="teacher",
            folder=out / "teacher",
            recipe=base,
            work=teacher_outcome,
        )
        self.failed: dict[str, str] = {}  # by name: why its training failed

    def rounds(self, device: str, progress: Progress) -> list[list[RoundScore]]:
        """Carry out every round for which there is time; the scores of each, best first.

        Raises MldrError when the teacher has nothing to teach, or every training of a round failed.
        """
        self._train([self.teacher], device=device, data=self.data, progress=progress)
        entrants: list[Entrant] = self.plan.entrants
        scores: list[list[RoundScore]] = []
        while self._goes_on(scores):
            number = len(scores)
            halving = self.hours.start(number, partial(self._round, entrants))
            if halving is None:
                progress.note(str(self.hours.omission()))
                break
            students = counted(len(entrants), "student")
            epochs = counted(halving.epochs, "epoch")
            progress.note(f"round {number + 1}: {students}, {epochs}")
            longest_first = sorted(entrants, key=lambda e: -(e.seconds_per_epoch or 0.0))
            units = {entrant.name: self.unit(entrant, number) for entrant in longest_first}
            self._attempt(self._train, [*units.values()], device, progress)
            standing = ranking([_score(e, u) for e in entrants if (u := units[e.name]).finished])
            scores.append(standing)
            entrants = [self.plan.entrant(score.name) for score in better(standing)]
        return scores

    def prove(self, scores: list[list[RoundScore]], device: str, progress: Progress) -> list[Unit]:
        """Export and prove the finalists; the finished units, in the same order.

        In this process, since their files are timed.
        """
        number, best = len(scores) - 1, better(scores[-1])
        units = [self._proof(self.plan.entrant(score.name), number) for score in best]
        self._attempt(work, units, device, progress)
        return [unit for unit in units if unit.finished]

    def unit(self, entrant: Entrant, number: int) -> Unit:
        """The training of ``entrant`` in round ``number``."""
        epochs = self.hours.rounds[number].epochs
        return Unit(
            name=f"{entrant.name}, round {number + 1}",
            folder=self.out / "rounds" / str(number + 1) / entrant.folder,
            recipe=student_recipe(
                self.base, entrant.name, entrant.model, entrant.image_size, epochs
            ),
            work=tuning_outcome,
            needs=self.teacher,
            teacher=self.teacher,
        )

    def _goes_on(self, scores: list[list[RoundScore]]) -> bool:
        """Whether somebody is left to drop, and the recipe has epochs for a longer round."""
        if not scores:
            return True
        longer = _LONGER * self.hours.rounds[len(scores) - 1].epochs
        return len(better(scores[-1])) < len(scores[-1]) and longer <= self.base.train.passes

    def _round(self, entrants: list[Entrant], seconds: float) -> HalvingRound | None:
        """The next round, of ``entrants``, by what they took in the last; None: no time for it."""
        if not self.hours.rounds:
            return self.plan.rounds[0]
        number = len(self.hours.rounds) - 1
        before = self.hours.rounds[number].epochs
        taken = [self.unit(entrant, number).outcome["train_seconds"] for entrant in entrants]
        costs = [float(seconds) / before for seconds in taken]
        limit, jobs = self.base.train.passes, self.plan.jobs
        rounds = fitting(costs, seconds, limit, jobs, least=_LONGER * before)
        return rounds[0] if rounds else None

    def _proof(self, entrant: Entrant, number: int) -> Unit:
        trained = self.unit(entrant, number)
        return replace(
            trained, name=proof_name(entrant.name), work=self._prove, file=_PROOF, needs=trained
        )

    def _prove(self, pipeline: Pipeline) -> Outcome:
        """Export and prove a finished student, and time its files as before training."""
        bundle = pipeline.bundle()
        request = self.plan.request
        proven = [a for a in bundle.manifest.artifacts if a.format == request.target]
        artifacts = {artifact.precision: artifact for artifact in proven}
        files = {name: bundle.file(artifact) for name, artifact in artifacts.items()}
        latencies = time_files(
            files, request.target, request.budget, bundle.golden.inputs, request.rules
        )
        return {
            precision: ProvenFile(
                file=artifact.file,
                test_top1=artifact.parity.artifact.top1,
                bytes=artifact.size,
                latency=latencies[precision],
                objection=defect(bundle.manifest, artifact),
            ).model_dump(mode="json")
            for precision, artifact in artifacts.items()
        }

    def _attempt(self, carry_out: Work, units: list[Unit], device: str, progress: Progress) -> None:
        """Carry out ``units``; those that fail are noted, unless none is finished."""
        try:
            carry_out(units, device=device, data=self.data, progress=progress)
        except Failures:
            if not any(unit.finished for unit in units):
                raise
        for unit in units:
            if (reason := failure(unit)) is not None:
                self.failed[unit.name] = reason


def proof_name(student: str) -> str:
    """Name of the unit that exports and proves ``student``."""
    return f"proof of {student}"


def proven_files(unit: Unit) -> dict[str, ProvenFile]:
    """The files of a finished proof, by precision."""
    return {name: ProvenFile(**entry) for name, entry in unit.outcome.items()}


def _score(entrant: Entrant, unit: Unit) -> RoundScore:
    top1 = unit.outcome.get("val_top1")
    if top1 is None:
        raise MldrError(
            "students are chosen by validation accuracy and the data set has no validation split "
            "(data.val_fraction is 0): set data.val_fraction=0.1"
        )
    fastest = entrant.fastest
    return RoundScore(entrant.name, float(top1), fastest.milliseconds, fastest.bytes)
