"""MLDR-KD: multi-level decoupled relational distillation (arXiv 2502.06189).

    L = CE(s, y) + DFRA(s) + sum_k DFRA(z_k) + DFRA(fused)

with z_k the logits of stage k's projector and fused their dynamic fusion, every DFRA against the
teacher's logits. The three weights make the paper's ablations; 0 leaves a part out, and the
projectors too where nothing needs them. See docs/design.md, section Method.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...models.stages import StageOutput
from ..dfra import DfraTerms, dfra_losses
from ..gather import gather, spans_processes
from ..msdf import MultiScaleFusion
from ..projectors import stage_projectors
from .base import Keys, Method, Pair, Step


class MldrKdConfig(Keys):
    """MLDR-KD, with the weights of its parts."""

    teaches_classifier: ClassVar[tuple[str, ...]] = ("logits_weight",)

    temperature: float = Field(default=1.0, gt=0, description="T; divides both models' logits.")
    alpha: float = Field(
        default=2.0, ge=0, description="Weight of the probability term within each DFRA."
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
        if not logits:
            return {}
        terms = iter(self._dfra(logits, teacher.logits))
        losses: dict[str, Tensor] = {}
        for name, (group, weight) in heads.items():
            mine = [next(terms) for _ in group]
            losses |= {f"{name}.{part}": weight * value for part, value in _sum(mine).items()}
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
        config = self.config
        everyone, everyone_teacher = None, None
        if config.relations == "gathered" and spans_processes():
            gathered = gather(torch.cat([*logits, teacher.to(logits[0].dtype)], dim=1))
            *everyone, everyone_teacher = gathered.split(teacher.shape[1], dim=1)
        return dfra_losses(
            logits,
            teacher,
            temperature=config.temperature,
            alpha=config.alpha,
            sample_student_logits=everyone,
            sample_teacher_logits=everyone_teacher,
        )


def _sum(terms: list[DfraTerms]) -> dict[str, Tensor]:
    summed = {
        "class": torch.stack([t.class_relation for t in terms]).sum(),
        "sample": torch.stack([t.sample_relation for t in terms]).sum(),
    }
    if all(t.alpha for t in terms):
        summed["probability"] = torch.stack([t.alpha * t.probability for t in terms]).sum()
    return summed
