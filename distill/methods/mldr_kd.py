"""MLDR-KD: multi-level decoupled relational distillation (arXiv 2502.06189).

    L = CE(s, y) + DFRA(s) + sum_k DFRA(z_k) + DFRA(fused)

with z_k the logits of stage k's projector and fused their dynamic fusion, every DFRA against the
teacher's logits. A weight of 0 leaves its part out, and the projectors where nothing needs them.

`form` names a set of values for the keys that a recipe does not give. `published` is the authors'.
`standardised` is ours: it takes the size out of both models' logits (`dfra.py` says why).
See docs/design.md, section Method.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ...models.stages import StageOutput
from ..dfra import DfraForm, DfraTerms, GlobalBatch, Standardise, dfra_losses
from ..gather import gather, spans_processes
from ..msdf import MultiScaleFusion
from ..projectors import stage_projectors
from .base import Keys, Method, Pair, Step

# What each form says of the keys that a recipe leaves out; the fields' defaults are `published`.
FORMS: dict[str, dict[str, Any]] = {
    "published": {},
    "standardised": {"standardise": "sample", "logits_weight": 10.0},
}


class MldrKdConfig(Keys):
    """MLDR-KD, with the weights of its parts."""

    teaches_classifier: ClassVar[tuple[str, ...]] = ("logits_weight",)

    form: Literal["published", "standardised"] = Field(
        default="published",
        description="What the keys not given are: `published` is the paper's loss; `standardised` "
        "sets standardise=sample and logits_weight=10.",
    )
    temperature: float = Field(default=1.0, gt=0, description="T; divides both models' logits.")
    standardise: Standardise = Field(
        default="none",
        description="`sample`: both models' logits of each image first get mean 0 and standard "
        "deviation 1. `axis`: so for the relations between classes and the probabilities, but "
        "the relations between images compare logits that are standardised class by class, over "
        "the images. `none`: logits as they are.",
    )
    class_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the relations between classes within each DFRA; 0: off.",
    )
    sample_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the relations between images within each DFRA; 0: off.",
    )
    alpha: float = Field(
        default=2.0, ge=0, description="Weight of the probability term within each DFRA; 0: off."
    )
    logits_weight: float = Field(
        default=1.0, ge=0, description="Weight of DFRA on the student's logits; 0: off."
    )
    stage_weight: float = Field(
        default=1.0, ge=0, description="Weight of DFRA on each stage's logits; 0: off."
    )
    fused_weight: float = Field(
        default=1.0, ge=0, description="Weight of DFRA on the fused (MSDF) logits; 0: off."
    )
    relations: Literal["local", "gathered"] = Field(
        default="local",
        description="Relations between samples span the images of one process (`local`) or the "
        "global batch of all processes (`gathered`).",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_form(cls, table: Any) -> Any:
        form = table.get("form") if isinstance(table, dict) else None
        return FORMS.get(form, {}) | table if isinstance(form, str) else table

    @model_validator(mode="after")
    def _terms_teach(self) -> Self:
        if self.dfra.empty and not self.label_weight:
            raise ValueError(
                "with label_weight = class_weight = sample_weight = alpha = 0 nothing would teach "
                "the student's classifier"
            )
        if self.form == "standardised" and self.standardise == "none":
            raise ValueError(
                "form = standardised and standardise = none contradict each other: leave out "
                "standardise and logits_weight, or set both"
            )
        return self

    @property
    def dfra(self) -> DfraForm:
        """What every head's DFRA compares."""
        return DfraForm(
            temperature=self.temperature,
            standardise=self.standardise,
            class_weight=self.class_weight,
            sample_weight=self.sample_weight,
            alpha=self.alpha,
        )


class MldrKd(Method):
    """DFRA on the logits, on four stages, and on their fusion."""

    name: ClassVar[str] = "mldr-kd"
    keys = MldrKdConfig
    config: MldrKdConfig

    def __init__(self, config: MldrKdConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        assert pair.teacher is not None
        width = max(pair.student.shapes[-1].channels, pair.teacher.feature_width)
        self.projectors = self.fusion = None
        if config.dfra.empty:
            return
        if config.stage_weight or config.fused_weight:
            self.projectors = stage_projectors(pair.student, width, pair.classes)
        if config.fused_weight:
            self.fusion = MultiScaleFusion(width, pair.classes)

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"logits.class", "logits.sample", "logits.probability", "stages.class", ...}."""
        assert teacher is not None
        heads = self.heads(student)
        logits = [z for group, _ in heads.values() for z in group]
        if not logits or self.config.dfra.empty:
            return {}
        terms = iter(self._dfra(logits, teacher.logits))
        losses: dict[str, Tensor] = {}
        for name, (group, weight) in heads.items():
            weighted = [next(terms).weighted for _ in group]
            for part in weighted[0]:
                total = torch.stack([values[part] for values in weighted]).sum()
                losses[f"{name}.{part}"] = weight * total
        return losses

    def heads(self, student: StageOutput) -> dict[str, tuple[list[Tensor], float]]:
        """Every group of logits [B, C] that is distilled, by name, with its weight."""
        config = self.config
        heads: dict[str, tuple[list[Tensor], float]] = {}
        if config.logits_weight:
            heads["logits"] = [student.logits], config.logits_weight
        if self.projectors is None:
            return heads
        pairs = zip(self.projectors, student.stages, strict=True)
        projections = [projector(stage) for projector, stage in pairs]
        if config.stage_weight:
            heads["stages"] = [p.logits for p in projections], config.stage_weight
        if self.fusion is not None:
            descriptors = torch.stack([p.descriptor for p in projections], dim=1)
            fused = self.fusion(descriptors, torch.stack([p.logits for p in projections], dim=1))
            heads["fused"] = [fused.logits], config.fused_weight
        return heads

    def _dfra(self, logits: list[Tensor], teacher: Tensor) -> list[DfraTerms]:
        global_batch = None
        if self.config.relations == "gathered" and spans_processes():
            rows = gather(torch.cat([*logits, teacher.to(logits[0].dtype)], dim=1))
            *students, answers = rows.split(teacher.shape[1], dim=1)
            global_batch = GlobalBatch(students, answers)
        return dfra_losses(logits, teacher, self.config.dfra, global_batch)
