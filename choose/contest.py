"""The rounds of a choice, as runs that any process may take, and the proof of the finalists.

OUT/teacher/                 the teacher's run, whose logits all rounds share
OUT/rounds/K/NAME/           a student's run in round K; of proven ones bundle/ and proof.json too
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..bundle.progress import Progress
from ..bundle.shipping import defect
from ..bundle.wording import counted
from ..compare.outcomes import Outcome, taught_outcome, tuning_outcome
from ..compare.recent_data import RecentData
from ..compare.units import Unit
from ..compare.workers import Failures, Work, failure, work
from ..errors import MldrError
from ..pipeline.phases import Pipeline
from ..pipeline.recipe import Recipe
from ..pipeline.workspace import Workspace
from .choice_plan import ChoicePlan, Entrant
from .halving import (
    FINALISTS,
    HalvingRound,
    RoundScore,
    better,
    fitting,
    furthest,
    ranking,
    together,
)
from .hours_left import HoursLeft
from .proof import ProvenFile, proof_name, proven_files, shipped
from .request import student_recipe
from .untrained import steadiest, time_files

_PROOF = "proof.json"
_LONGER = 1.5  # times the epochs of the round before: less would say nothing new


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
            work=taught_outcome,
        )
        self.failed: dict[str, str] = {}  # by name: why its training failed

    def rounds(self, device: str, progress: Progress) -> list[list[RoundScore]]:
        """Carry out every round for which there is time; the scores of each, best first.

        Raises MldrError when the teacher has nothing to teach, or every training of a round failed.
        """
        self._train([self.teacher], device=device, data=self.data, progress=progress)
        entrants: list[Entrant] = self.plan.entrants
        scores: list[list[RoundScore]] = []
        while not scores or self._may_be_longer(len(scores) - 1):
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
            if len(entrants) <= FINALISTS:
                break
            entrants = self._going_on(standing, number, device, progress)
        return scores

    def prove(
        self, scores: list[list[RoundScore]], device: str, progress: Progress
    ) -> dict[str, Unit]:
        """Export and prove the finalists; the finished units by student.

        Where none of them may be shipped, the others are proven, best first, until one may be. In
        this process, since their files are timed.
        """
        finalists = {score.name for score in better(scores[-1])}
        proven: dict[str, Unit] = {}
        is_decided = False
        for score, number in furthest(scores):
            if is_decided and score.name not in finalists:
                break
            unit = self._proven(self.plan.entrant(score.name), number, device, progress)
            if unit.finished:
                proven[score.name] = unit
                is_decided |= self._may_ship(score.name, unit)
        return proven

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

    def _may_be_longer(self, number: int) -> bool:
        """Whether the recipe has epochs for a longer round than ``number``."""
        return _LONGER * self.hours.rounds[number].epochs <= self.base.train.passes

    def _going_on(
        self, standing: list[RoundScore], number: int, device: str, progress: Progress
    ) -> list[Entrant]:
        """Those of the ranking of round ``number`` that go on.

        The last round takes most of the time: before it, students of which int8 alone is within
        the budget are proven, since its gate may refuse them.
        """
        best = [self.plan.entrant(score.name) for score in better(standing)]
        if len(best) > FINALISTS:
            return best
        going: list[Entrant] = []
        for entrant in (self.plan.entrant(score.name) for score in standing):
            if len(going) < len(best) and (
                "fp32" in entrant.precisions
                or self._may_ship(entrant.name, self._proven(entrant, number, device, progress))
            ):
                going.append(entrant)
        return going or best

    def _proven(self, entrant: Entrant, number: int, device: str, progress: Progress) -> Unit:
        """The proof of ``entrant`` as round ``number`` left it; not finished where it failed."""
        unit = self._proof(entrant, number)
        with contextlib.suppress(Failures):
            self._attempt(work, [unit], device, progress)
        return unit

    def _may_ship(self, name: str, proof: Unit) -> bool:
        return proof.finished and shipped(self.plan, name, proven_files(proof))[0] is not None

    def _round(self, entrants: list[Entrant], seconds: float) -> HalvingRound | None:
        """The next round, of ``entrants``, by what they took in the last; None: no time for it."""
        if not self.hours.rounds:
            return self.plan.rounds[0]
        number = len(self.hours.rounds) - 1
        before = self.hours.rounds[number].epochs
        taken = [_seconds(self.unit(entrant, number)) for entrant in entrants]
        costs = [steps / before for steps, _ in taken]
        limit, jobs = self.base.train.passes, self.plan.jobs
        seconds -= together((preparation for _, preparation in taken), jobs)
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
        latencies = steadiest(
            lambda: time_files(
                files, request.target, request.budget, bundle.golden.inputs, request.rules
            )
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
        """Carry out ``units`` and note those that fail. Raises Failures when none is finished."""
        try:
            carry_out(units, device=device, data=self.data, progress=progress)
        except Failures:
            if not any(unit.finished for unit in units):
                raise
        finally:
            for unit in units:
                if (reason := failure(unit)) is not None:
                    self.failed[unit.name] = reason


def _seconds(unit: Unit) -> tuple[float, float]:
    """What a finished training took: its steps, and what went before them."""
    steps = float(unit.outcome["train_seconds"])
    whole = Workspace(unit.folder, unit.recipe).times().get("student", steps)
    return steps, max(0.0, whole - steps)


def _score(entrant: Entrant, unit: Unit) -> RoundScore:
    top1 = unit.outcome.get("val_top1")
    if top1 is None:
        raise MldrError(
            "students are chosen by validation accuracy and the data set has no validation split "
            "(data.val_fraction is 0): set data.val_fraction=0.1"
        )
    fastest = entrant.fastest
    return RoundScore(entrant.name, float(top1), fastest.milliseconds, fastest.bytes)
