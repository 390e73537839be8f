"""Whether a classifier is better than always naming the largest class: the one judge of it."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field, model_validator

ALPHA = 0.05  # largest p that counts as better
_TOP = 5
AT_CHANCE = "the student is no better than chance"
_ADVICE = (
    "train it longer (train.epochs), start from published weights (student.weights=timm with "
    "student.fresh_head=true), or look at the labels"
)


class Chance(BaseModel):
    """What a classifier scored on a split, held against naming its largest class.

    True when it is significantly better; prints itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(ge=1, description="Images of the split.")
    hits: int = Field(ge=0, description="Images that the classifier got right.")
    largest: int = Field(ge=1, description="Images of the largest class.")

    @model_validator(mode="after")
    def _within_images(self) -> Chance:
        if max(self.hits, self.largest) > self.images:
            raise ValueError(f"{self.hits} right, {self.largest} of one class, of {self.images}")
        return self

    @property
    def p(self) -> float:
        """One-sided: the part of classifiers as good as naming the largest class that do this."""
        return binomial_tail(self.hits, self.images, self.largest / self.images)

    @property
    def can_tell(self) -> bool:
        """Whether there are enough images for a faultless classifier to be significantly better."""
        return binomial_tail(self.images, self.images, self.largest / self.images) <= ALPHA

    def __bool__(self) -> bool:
        return self.p <= ALPHA

    @property
    def warning(self) -> str:
        """What to say of a student that is not better, and what to try."""
        return f"{AT_CHANCE}: {self}; {_ADVICE}"

    def __str__(self) -> str:
        scored, named = (100 * count / self.images for count in (self.hits, self.largest))
        better = "significantly better" if self else "not significantly better"
        return (
            f"top-1 {scored:.2f} % of {self.images} images, {better} than always naming the "
            f"largest class ({named:.2f} %, exact binomial p = {self.p:.2g})"
        )


def tells_top5(classes: int) -> bool:
    """Whether top-5 accuracy says anything: with five classes or fewer it is always 100 %."""
    return classes > _TOP


def binomial_tail(hits: int, trials: int, probability: float) -> float:
    """P[X >= hits] for X ~ Bin(trials, probability), summed term by term."""
    if hits <= 0 or probability >= 1:
        return 1.0
    if probability <= 0:
        return 0.0
    yes, no, whole = math.log(probability), math.log1p(-probability), math.lgamma(trials + 1)
    terms = (
        math.exp(
            whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * yes + (trials - k) * no
        )
        for k in range(hits, trials + 1)
    )
    return min(1.0, math.fsum(terms))
