"""What a person must know of a data set beside its size: training records it, the card shows it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .manifest import Manifest

KEY = "data_report"  # in the provenance of a training
_NAMED = 5  # classes that one line names


class Omission(BaseModel):
    """Files of one kind under one class that were not taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = Field(description="Split that they lie in.")
    label: str = Field(description="Class that they lie in; empty: in none.")
    reason: str = Field(description="What such files are, in the plural.")
    count: int = Field(ge=1, description="How many.")
    first: str = Field(description="Path of the first.")
    lost: bool = Field(description="Whether pictures are missing because of them.")


class DataReport(BaseModel):
    """What was left out, which split was cut, and which pictures stand twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    omissions: list[Omission] = Field(default_factory=list, description="What was not taken.")
    test_cut: float | None = Field(
        default=None, description="Part of train that became the test split; none: it has its own."
    )
    test_images: int = Field(default=0, ge=0, description="Pictures of the test split.")
    leaked: int | None = Field(
        default=None,
        description="Test pictures whose decoded pixels are in train or validation too; none: "
        "nobody looked.",
    )
    contradicted: int | None = Field(
        default=None,
        description="Training and validation pictures that another one repeats, pixel by pixel, "
        "under another label; none: nobody looked.",
    )

    def lines(self) -> Iterator[str]:
        """One sentence for every finding."""
        reasons = dict.fromkeys((omission.reason, omission.lost) for omission in self.omissions)
        yield from (self._left_out(*reason) for reason in reasons)
        if self.test_cut is not None:
            yield (
                f"the data have no test split: {100 * self.test_cut:g} % of every class was cut "
                f"from train ({self.test_images} images)"
            )
        if self.leaked:
            yield (
                f"{self.leaked} of {self.test_images} test images stand in the training images "
                "too, pixel by pixel"
            )
        if self.contradicted:
            yield f"{self.contradicted} training images stand twice, under different labels"

    def _left_out(self, reason: str, lost: bool) -> str:
        omissions = [o for o in self.omissions if (o.reason, o.lost) == (reason, lost)]
        places = [f"{o.split}/{o.label} {o.count}".replace("/ ", " ") for o in omissions[:_NAMED]]
        unnamed = f", {len(omissions) - _NAMED} more classes" if len(omissions) > _NAMED else ""
        total = sum(o.count for o in omissions)
        return (
            f"left out: {reason}, {total} in all: {', '.join(places)}{unnamed}; "
            f"first {omissions[0].first}"
        )


def data_report_of(manifest: Manifest) -> DataReport:
    """What the training of a bundle recorded of its data; empty where it recorded nothing."""
    training = manifest.provenance.get("training", {})
    recorded = training.get(KEY) if isinstance(training, dict) else None
    try:
        return DataReport.model_validate(recorded or {})
    except ValidationError:  # written by another version
        return DataReport()
