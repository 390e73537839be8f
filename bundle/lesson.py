"""What the student made of its lesson: the one judge of whether teaching was worth it.

Held against its teacher, labels alone and its own first loss, by figures that training recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .quality import wilson
from .trained import TrainedModel

FIRST_LOSS, LAST_LOSS = "first_loss", "last_loss"  # keys of a trained model's metrics
FALLEN = 0.01  # part of the first loss; a smaller fall is none
_TRY_CLOSER = (
    "train longer (train.epochs), take a larger student or a teacher nearer to it in size, or "
    "another method.name"
)
_TRY_LABELS = (
    "ship the one of labels alone, or give the labels more weight (method.label_weight), take "
    "another method.name or a better teacher"
)
_TRY_RATE = (
    "another optimizer.lr (a tenth, then ten times), a warm-up (schedule.warmup_epochs), or look "
    "at the labels"
)


class Rival(BaseModel):
    """A model that the student is held against, on the same validation images."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="What it is called.")
    top1: float = Field(ge=0, le=100, description="Its validation top-1, per cent.")


class Lesson(BaseModel):
    """Figures of training, as far as they were recorded. True where nothing is to be said."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(default=0, ge=0, description="Validation images; 0: none.")
    top1: float = Field(default=0.0, ge=0, le=100, description="The student's top-1, per cent.")
    teacher: Rival | None = Field(default=None, description="The teacher.")
    labels: Rival | None = Field(default=None, description="The same student by labels alone.")
    first_loss: float | None = Field(
        default=None, description="Mean training loss of the first steps that were logged."
    )
    last_loss: float | None = Field(default=None, description="The same at the end.")
    distance: float = Field(
        default=5.0, ge=0, description="Points that it may lie below its teacher."
    )

    def __bool__(self) -> bool:
        return not self.lines()

    def lines(self) -> list[str]:
        """What is to be said, and what to try, a line each; none where all is well."""
        return [*self._below_teacher(), *self._below_labels(), *self._loss()]

    def _below_teacher(self) -> Iterator[str]:
        if self.teacher is not None and self._is_below(self.teacher, self.distance):
            yield (
                f"{self._behind(self.teacher)}, more than {self.distance:g} points "
                f"(export.teacher_distance); try: {_TRY_CLOSER}"
            )

    def _below_labels(self) -> Iterator[str]:
        if self.labels is not None and self._is_below(self.labels, 0):
            yield f"{self._behind(self.labels)}: teaching did harm; try: {_TRY_LABELS}"

    def _loss(self) -> Iterator[str]:
        if self.first_loss is None or self.last_loss is None:
            return
        if self.last_loss > (1 - FALLEN) * self.first_loss:
            yield (
                f"The training loss never fell: {self.first_loss:.4g} at first, "
                f"{self.last_loss:.4g} at the end; try: {_TRY_RATE}"
            )

    def _is_below(self, rival: Rival, points: float) -> bool:
        """Whether ``rival`` is better by more than ``points``, and by more than chance.

        Chance is what the images allow: `rival` lies above the student's 95 % interval (Wilson).
        """
        if not self.images:
            return False
        _, high = wilson(round(self.top1 * self.images / 100), self.images)
        return rival.top1 - self.top1 > points and rival.top1 > 100 * high

    def _behind(self, rival: Rival) -> str:
        return (
            f"The student's top-1 on {self.images} validation images, {self.top1:.2f} %, is "
            f"{rival.top1 - self.top1:.2f} points below {rival.name} ({rival.top1:.2f} %)"
        )


def lesson_of(student: TrainedModel, distance: float, labels: Rival | None) -> Lesson:
    """The figures that ``student`` records; ``labels`` is the same student by labels alone."""
    evidence, losses = student.evidence, student.metrics
    return Lesson(
        images=0 if evidence is None else evidence.images,
        top1=0.0 if evidence is None else evidence.top1,
        teacher=_teacher(student.provenance.get("teacher")),
        labels=labels,
        first_loss=losses.get(FIRST_LOSS),
        last_loss=losses.get(LAST_LOSS),
        distance=distance,
    )


def _teacher(record: Any) -> Rival | None:
    """The teacher as the student's provenance has it; None where its accuracy is not known."""
    top1 = record.get("metrics", {}).get("val_top1") if isinstance(record, dict) else None
    return None if top1 is None else Rival(name=f"its teacher {record['name']}", top1=top1)
