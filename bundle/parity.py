"""What parity measures and the gates it must pass, as stored in the manifest.

See docs/design.md, section Parity.

The measuring lives in ``export/measure_parity.py``; a reader of a bundle needs only these records.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .chance import tells_top5
from .mcnemar import mcnemar_exact

_SEVERAL = 3  # times the allowed drop: what a split must be able to tell
_RECORD = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Gate(BaseModel):
    """What an artifact of one precision may deviate from the PyTorch student; None: no limit.

    NaN or infinity in the logits fails every gate.
    """

    model_config = _RECORD

    min_agreement: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Smallest share of test images on which artifact and student name the same "
        "class, per cent; ties (see `ties`) count as agreement.",
    )
    max_dlogit: float | None = Field(
        default=None, ge=0, description="Largest absolute difference of any logit."
    )
    max_relative: float | None = Field(
        default=None,
        ge=0,
        description="The same as a part of the largest logit: 1e-6 is usual between two fp32 "
        "libraries, TF32 and approximated activations give 1e-4.",
    )
    max_drop: float | None = Field(
        default=None,
        ge=0,
        description="Largest drop of top-1 accuracy, percentage points. A larger one fails only "
        "if McNemar's exact test calls it significant.",
    )
    significance: float = Field(
        default=0.05, gt=0, lt=1, description="Level of McNemar's test for `max_drop`."
    )
    band: float = Field(
        default=1e-4,
        gt=0,
        description="Bisect: difference of an intermediate tensor, as a part of the tensor's "
        "largest magnitude, above which its node is out of band.",
    )


class Accuracy(BaseModel):
    """Share of images whose label is the first, or among the first five, classes; per cent."""

    model_config = _RECORD

    top1: float = Field(ge=0, le=100, description="Top-1 accuracy, per cent.")
    top5: float = Field(ge=0, le=100, description="Top-5 accuracy, per cent.")


class BatchCheck(BaseModel):
    """One batch size, tried on the first images of the split."""

    model_config = _RECORD

    batch: int = Field(ge=1, description="Images per call.")
    max_dlogit: float | None = Field(
        description="Largest absolute logit difference; None when nothing finite came back."
    )
    error: str | None = Field(default=None, description="Why the artifact did not run, if so.")


class Fault(BaseModel):
    """Where an artifact leaves the band first: the answer of bisect."""

    model_config = _RECORD

    node: str = Field(description="Name of the ONNX node.")
    op_type: str = Field(description="Its operator.")
    value: str = Field(description="Its output that is out of band.")
    module: str = Field(description="PyTorch module that it came from, as in named_modules().")
    module_type: str = Field(description="Class of that module.")
    shape: list[int] = Field(
        default_factory=list, description="Shape of that output in PyTorch, for the images tried."
    )
    difference: float | None = Field(
        description="Largest absolute difference from PyTorch; None: NaN, infinity or wrong shape."
    )
    allowed: float = Field(description="Largest difference inside the band.")
    suspects: list[str] = Field(
        default_factory=list,
        description="Nodes before it without a PyTorch counterpart, whose output nothing verified.",
    )
    weights: list[str] = Field(
        default_factory=list,
        description="Constant tensors that the node and the suspects take.",
    )

    def __str__(self) -> str:
        size = "NaN, infinity or wrong shape"
        if self.difference is not None:
            size = f"off by {self.difference:.3g}, band {self.allowed:.3g}"
        text = (
            f"first node out of band: {self.op_type} {self.node} "
            f"({self.value}{f' {self.shape}' if self.shape else ''}: {size}), "
            f"from PyTorch module {self.module or '(the model itself)'} ({self.module_type})"
        )
        return text + (
            f"; unverified before it: {', '.join(self.suspects)}" if self.suspects else ""
        )


class ParityResult(BaseModel):
    """Artifact beside PyTorch student on a whole split. True when every gate holds."""

    model_config = _RECORD

    precision: str = Field(description="Precision of the artifact.")
    samples: int = Field(ge=0, description="Images compared.")
    classes: int | None = Field(
        default=None, ge=2, description="Width of the logits; None in bundles from before."
    )
    reference: Accuracy = Field(description="The PyTorch student, fp32, evaluation mode.")
    artifact: Accuracy = Field(description="The artifact.")
    lost: int = Field(ge=0, description="Images right in PyTorch and wrong in the artifact.")
    gained: int = Field(ge=0, description="Images wrong in PyTorch and right in the artifact.")
    mcnemar_p: float = Field(ge=0, le=1, description="Two-sided exact McNemar test of the two.")
    disagreements: int = Field(ge=0, description="Images with another top-1 class, ties included.")
    ties: int = Field(
        ge=0,
        description="Disagreements where the student's two logits lie within twice the allowed "
        "`max_dlogit`, so that a permitted difference can swap them.",
    )
    max_dlogit: float = Field(ge=0, description="Largest absolute difference of a finite logit.")
    p99_dlogit: float = Field(ge=0, description="99th percentile of them, nearest rank.")
    mean_kl: float = Field(description="Mean KL(student || artifact) of the softmax, nats.")
    nonfinite: int = Field(ge=0, description="NaN or infinite logits of the artifact.")
    reference_nonfinite: int = Field(ge=0, description="NaN or infinite logits of the student.")
    largest_logit: float | None = Field(
        default=None, ge=0, description="Largest magnitude of a finite logit of the student."
    )
    repeat_dlogit: float | None = Field(
        default=None, ge=0, description="Largest difference of two runs on the same images."
    )
    batch_dlogit: float | None = Field(
        default=None,
        ge=0,
        description="Largest difference of an image's logits alone and among other images.",
    )
    colour_dlogit: float | None = Field(
        default=None,
        ge=0,
        description="Largest difference from the student on the first images in false colours; "
        "grey images alone would not show mixed-up channels.",
    )
    worst_index: int = Field(ge=0, description="Image of the split with the largest difference.")
    batches: list[BatchCheck] = Field(description="Batch sizes tried.")
    gate: Gate = Field(description="The gate it was held against.")
    failures: list[str] = Field(description="Gates that do not hold, in words.")

    def __bool__(self) -> bool:
        return not self.failures

    @property
    def drop(self) -> float:
        """Top-1 of the student minus top-1 of the artifact, percentage points."""
        return self.reference.top1 - self.artifact.top1

    @property
    def excess(self) -> bool:
        """Whether the drop is above its limit, significant or not."""
        limit = self.gate.max_drop
        return limit is not None and self.drop - limit > 1e-9  # no matter of rounding

    @property
    def significant(self) -> bool:
        """Whether McNemar's test tells the images lost and gained from chance."""
        return self.mcnemar_p < self.gate.significance

    @property
    def can_tell(self) -> bool:
        """Whether a drop of several times the allowed one would be significant on these images.

        With as many images gained as were: few images, or many that flip either way, tell nothing.
        """
        several = int(_SEVERAL * (self.gate.max_drop or 0) * self.samples / 100)
        return mcnemar_exact(self.gained + several, self.gained) < self.gate.significance

    @property
    def untold(self) -> str | None:
        """What to say of a drop above its limit that is not significant; None: there is none."""
        if not self.excess or self.significant:
            return None
        return f"drop {self.drop:.2f} points: {self.samples} images cannot tell it from chance"

    @property
    def doubt(self) -> str | None:
        """Why nothing shows that the accuracy is the student's; None: something does.

        That is a drop above its limit, on images that could not tell a drop of several times as
        much, where no limit on the logits stands beside it.
        """
        gate = self.gate
        others = (gate.min_agreement, gate.max_dlogit, gate.max_relative)
        if any(limit is not None for limit in others) or self.can_tell:
            return None
        return self.untold

    @property
    def verdict(self) -> str:
        """``passed``, ``failed``, or ``in doubt`` where it passed for want of images."""
        if not self:
            return "failed"
        return "passed" if self.doubt is None else "in doubt"

    @property
    def agreement(self) -> float:
        """Share of images with the same top-1 class, ties counted as agreement, per cent."""
        agreeing = self.samples - (self.disagreements - self.ties)
        return 100 * agreeing / self.samples if self.samples else 0.0

    @property
    def needed(self) -> Gate:
        """A gate that these measurements would have passed, each limit as tight as they allow.

        What counts as a tie is left as the gate that was applied has it.
        """
        small_batches = [check.max_dlogit or 0.0 for check in self.batches]
        largest = max([self.max_dlogit, *small_batches])
        return Gate(
            min_agreement=self.agreement,
            max_dlogit=largest,
            max_relative=largest / self.largest_logit if self.largest_logit else None,
            max_drop=max(self.drop, 0.0),
        )

    def __str__(self) -> str:
        needed, top5, verdict = self.needed, "", self.verdict if self else "FAILED"
        if self.classes is None or tells_top5(self.classes):
            top5 = f"top-5 {self.artifact.top5:.2f} % (PyTorch {self.reference.top5:.2f} %), "
        lines = [
            f"parity {self.precision}: {verdict} on {self.samples} images",
            f"  top-1 {self.artifact.top1:.2f} % (PyTorch {self.reference.top1:.2f} %), {top5}"
            f"drop {self.drop:+.2f} points (McNemar p {self.mcnemar_p:.2g})",
            f"  agreement {self.agreement:.2f} % ({self.ties} ties), |dlogit| max "
            f"{self.max_dlogit:.2g}, p99 {self.p99_dlogit:.2g}, mean KL {self.mean_kl:.2g}",
            f"  would have needed: agreement {needed.min_agreement:.2f} %, |dlogit| "
            f"{needed.max_dlogit:.2g}, drop {needed.max_drop:.2f} points",
        ]
        untold = [] if self.untold is None else [f"  {self.untold}"]
        return "\n".join(lines + untold + [f"  failed: {failure}" for failure in self.failures])
