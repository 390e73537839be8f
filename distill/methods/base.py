"""What a distillation method is to the trainer: named losses from two forward passes.

Defaults of the peers' keys: the comparison to be repeated is OFA-KD's, whose Table 2 gives the
published figures across architectures, so its released settings (`train.py` of Hao840/OFAKD, whose
commands change only the config, the models and the distiller) go before a method's own paper,
which tuned for CNN pairs. Each file says where the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ...errors import MldrError
from ...models.stages import StageOutput, StagePlan
from ..softening import soften

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pair:
    """What a method may know when it builds its own layers: the two models, and their images."""

    classes: int
    student: StagePlan
    teacher: StagePlan | None  # None where there is no teacher
    labels: Tensor | None = None  # int64 [N], of the training images by index
    batch: int = 0  # images of one forward pass of one process; 0: not known
    device: torch.device = _CPU  # where it will be trained


@dataclass(frozen=True)
class Step:
    """What a method may know of the b images that both models have just seen."""

    targets: Tensor  # [b, C], rows that sum to one: one-hot labels, or a mixture of two
    indices: Tensor  # int64 [b], positions in the training split; of a mixture, the first's
    done: Tensor  # [], share of the run's steps before this one, 0 <= done < 1

    @property
    def labels(self) -> Tensor:
        """int64 [b], each image's class; of a mixture, the class with the larger share."""
        return self.targets.argmax(dim=1)


class Keys(BaseModel):
    """What a recipe may say of a method; each method's own class adds to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # The weights, beside the labels', of losses that the student's classifier learns from.
    teaches_classifier: ClassVar[tuple[str, ...]] = ()

    label_weight: float = Field(default=1.0, ge=0, description="Weight of the labels; 0: off.")

    @model_validator(mode="after")
    def _classifier_is_taught(self) -> Self:
        weights = ("label_weight", *self.teaches_classifier)
        if not any(getattr(self, weight) for weight in weights):
            raise ValueError(
                f"with {' = '.join(weights)} = 0 nothing would teach the student's classifier"
            )
        return self


class LogitKeys(Keys):
    """Keys of a method that compares logits, softened by a temperature."""

    temperature: float = Field(default=1.0, gt=0, description="T; divides both models' logits.")
    standardise: Literal["none", "sample"] = Field(
        default="none",
        description="`sample`: both models' logits of each image first get mean 0 and standard "
        "deviation 1 (Sun et al., CVPR 2024; T = 2 there).",
    )

    def soften(self, output: StageOutput) -> Tensor:
        """The logits [b, C] that are compared, float32."""
        axis = 1 if self.standardise == "sample" else None
        return soften(output.logits, self.temperature, standardise=axis)


class Method(nn.Module):
    """A distillation method; its parameters, if any, are trained beside the student's.

    The trainer adds ``label_weight`` times the cross-entropy with the labels to what `forward`
    returns, and minimises the sum. Whatever a method remembers from step to step is a buffer, so
    that checkpoints hold it. The class attributes say what the two models are asked for beside
    their logits; the student's stages are always there. A method is built from its own keys and
    a `Pair`, and raises MldrError, in one line, for what it cannot serve. Written in a file of
    this folder, it is there under its ``name`` (method_registry.py).
    """

    name: ClassVar[str]  # what a recipe's `method.name` gives
    keys: ClassVar[type[Keys]] = Keys  # its table in a recipe
    needs_teacher: ClassVar[bool] = True
    needs_teacher_stages: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False  # the pooled features of both
    config: Keys

    def __init__(self, config: Keys, pair: Pair) -> None:
        super().__init__()
        self.config = config
        plans = {"student": pair.student, "teacher": pair.teacher}
        for who, plan in plans.items():
            if self.needs_features and plan is not None and not plan.pooled_width:
                raise MldrError(
                    f"method {self.name} compares the features before the classifier, which the "
                    f"{who} does not give: choose another {who}.name or method.name"
                )
        if self.needs_teacher_stages and pair.teacher is not None and not pair.teacher.shapes:
            raise MldrError(
                f"stages: method {self.name} compares the teacher's stages, which this teacher "
                "does not give: choose another teacher.name or method.name"
            )

    @property
    def label_weight(self) -> float:
        """The weight of the cross-entropy with the labels."""
        return self.config.label_weight

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """Named losses, weights included, each a scalar tensor; none where its weight is 0."""
        raise NotImplementedError

    def require_batch(self, pair: Pair, least: int) -> None:
        """Refuse parts of a batch too small to hold the relations that this method compares."""
        if 0 < pair.batch < least:
            raise MldrError(
                f"method {self.name} compares {least} or more images with each other, but a "
                f"forward pass has {pair.batch}: raise data.batch_size or lower train.accumulate"
            )
