"""CRD: Tian et al., "Contrastive Representation Distillation" (ICLR 2020, arXiv 1910.10699).

The student's view of an image should tell the teacher's view of the same image from its views of
K others, and the other way round. Both models' pooled features go through a linear layer to unit
length, v_s and v_t [b, D], and a memory of N unit vectors a model, one a training image, holds
what was last seen of each. For the student as anchor (section 3.3, equations 17 to 19, and the
released code; m runs over the memory of the teacher),

    P(v, m) = exp(v . m / T) / Z,          Z = N * mean of the first batch's exp(v . m / T)
    L_s = -1/b sum_b [ log P+ / (P+ + K/N) + sum_{K negatives} log (K/N) / (P- + K/N) ]
    L = label_weight * CE + contrast_weight * (L_s + L_t)
    m_i <- unit length of (momentum * m_i + (1 - momentum) * v)     for the images of the batch.

Negatives are drawn uniformly, with repetition, from the images of other classes, as in OFA-KD's
code; the authors draw without where K allows. D = 128, K = 16384, T = 0.07 and momentum 0.5 are
the authors' (`train_student.py` of RepDistiller) and OFA-KD's; contrast_weight = 1 is OFA-KD's
(`train.py`: kd_loss_weight), the authors take 0.8. Of a mixed image (mixup, cutmix) the memory
keeps the mixture, under the first image's index, which the paper does not foresee.

b images of one process, N training images, D embedding width, K negatives.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...errors import MldrError
from ...models.stages import StageOutput
from ..gather import gather, spans_processes
from ..memory import free_bytes
from .base import Keys, Method, Pair, Step

_EPSILON = 1e-7  # the authors'; beside K/N


class CrdConfig(Keys):
    """Contrastive representation distillation."""

    contrast_weight: float = Field(
        default=1.0, ge=0, description="Weight of the contrastive losses; 0: off, no memory."
    )
    dimension: int = Field(default=128, ge=1, description="D, width of the embeddings.")
    negatives: int = Field(default=16384, ge=1, description="K, negatives an image.")
    temperature: float = Field(default=0.07, gt=0, description="T; divides the dot products.")
    momentum: float = Field(
        default=0.5, ge=0, lt=1, description="Share of the old vector in the memory's new one."
    )


class Crd(Method):
    """Two embeddings, two memories, and the contrast of each embedding with the other's memory."""

    name: ClassVar[str] = "crd"
    needs_features: ClassVar[bool] = True
    keys = CrdConfig
    config: CrdConfig
    negatives: Negatives | None
    embeddings: nn.ModuleDict
    memories: nn.ModuleDict
    normalisers: Tensor

    def __init__(self, config: CrdConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.negatives = None
        if not config.contrast_weight:
            return
        assert pair.teacher is not None and pair.labels is not None
        _require_memory(config, pair, len(pair.labels))
        self.negatives = Negatives(pair.labels)
        widths = {"student": pair.student.pooled_width, "teacher": pair.teacher.pooled_width}
        self.embeddings = nn.ModuleDict(
            {who: nn.Linear(width, config.dimension) for who, width in widths.items()}
        )
        self.memories = nn.ModuleDict(
            {who: MemoryBank(len(pair.labels), config.dimension, config.momentum) for who in widths}
        )
        self.register_buffer("normalisers", torch.zeros(2))  # Z of student, teacher; 0: not yet

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        """{"crd.student", "crd.teacher"}, by anchor."""
        if self.negatives is None:
            return {}
        assert teacher is not None and teacher.features is not None
        assert student.features is not None
        drawn = torch.cat([step.indices[:, None], self._draw(step.indices)], dim=1)  # [b, 1 + K]
        with torch.autocast(student.logits.device.type, enabled=False):
            seen = {"student": student.features.float(), "teacher": teacher.features.float()}
            v = {who: F.normalize(self.embeddings[who](x), dim=1) for who, x in seen.items()}
            losses = {
                f"crd.{anchor}": self._contrast(v[anchor], other, drawn, at)
                for at, (anchor, other) in enumerate(
                    [("student", "teacher"), ("teacher", "student")]
                )
            }
            self._remember(v, step.indices)
        return losses

    def _draw(self, indices: Tensor) -> Tensor:
        assert self.negatives is not None
        drawn: Tensor = self.negatives(indices, self.config.negatives)
        return drawn

    def _contrast(self, anchor: Tensor, other: str, drawn: Tensor, at: int) -> Tensor:
        """The weighted loss of anchors [b, D] against rows ``drawn`` [b, 1 + K] of a memory."""
        # Against the whole memory, then picked: b N D multiplications, but never [b, K, D] floats.
        # A copy, since the memory changes before the backward pass reads it.
        memory = self.memories[other]
        assert isinstance(memory, MemoryBank)
        vectors = memory.vectors.clone()
        scores = (anchor @ vectors.mT).gather(1, drawn).div(self.config.temperature).exp()
        with torch.no_grad():
            mean = scores.mean()
            if spans_processes():
                mean = gather(mean[None]).mean()
            z = torch.where(self.normalisers[at] > 0, self.normalisers[at], mean * len(vectors))
            self.normalisers[at] = z
        p, noise = scores / z, drawn[:, 1:].shape[1] / len(vectors)
        positive, negative = p[:, 0], p[:, 1:]
        right = (positive / (positive + noise + _EPSILON)).log()
        wrong = (noise / (negative + noise + _EPSILON)).log().sum(dim=1)
        return -self.config.contrast_weight * (right + wrong).mean()

    @torch.no_grad()
    def _remember(self, seen: dict[str, Tensor], indices: Tensor) -> None:
        """Every process writes what all processes saw: their memories stay the same."""
        if spans_processes():
            indices = gather(indices)
            seen = {who: gather(v) for who, v in seen.items()}
        for who, v in seen.items():
            self.memories[who](v.detach(), indices)


class MemoryBank(nn.Module):
    """One unit vector a training image, [N, D]; starts uniform within +-1/sqrt(D/3), as theirs."""

    vectors: Tensor

    def __init__(self, images: int, dimension: int, momentum: float) -> None:
        super().__init__()
        bound = 1 / math.sqrt(dimension / 3)
        self.momentum = momentum
        self.register_buffer("vectors", torch.empty(images, dimension).uniform_(-bound, bound))

    def forward(self, seen: Tensor, indices: Tensor) -> None:
        """Move the vectors of ``indices`` [b] towards ``seen`` [b, D]."""
        moved = self.momentum * self.vectors[indices] + (1 - self.momentum) * seen
        self.vectors.index_copy_(0, indices, F.normalize(moved, dim=1))


class Negatives(nn.Module):
    """Draws training images of other classes than an image's own, uniformly."""

    labels: Tensor  # [N]
    by_class: Tensor  # [N], images in order of their class
    first: Tensor  # [C], where each class begins in it
    count: Tensor  # [C]

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        count = torch.bincount(labels)
        if (count > 0).sum() < 2:
            raise MldrError(
                "method crd contrasts images of different classes, but all training images are of "
                "one: choose another method.name"
            )
        tables = {
            "labels": labels.clone(),
            "by_class": labels.argsort(stable=True),
            "first": count.cumsum(0) - count,
            "count": count,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, indices: Tensor, number: int) -> Tensor:
        """[b] -> [b, number], from the device's own generator."""
        own = self.labels[indices]
        first, count = self.first[own][:, None], self.count[own][:, None]
        drawn = torch.randint(2**62, (len(indices), number), device=indices.device)
        place = drawn % (len(self.labels) - count)  # among the others, own class cut out
        return self.by_class[torch.where(place < first, place, place + count)]


def _require_memory(config: CrdConfig, pair: Pair, images: int) -> None:
    """Refuse where the memories and a step's scores would not fit beside what is there."""
    free = free_bytes(pair.device)
    memories = 4 * images * config.dimension  # two, and a copy of each in a step
    scores = 4 * images * pair.batch + 16 * pair.batch * (config.negatives + 1)
    needed = 4 * (memories + scores)
    if free is not None and needed > free:
        raise MldrError(
            f"method crd remembers {images} training images, which takes {needed / 2**30:.1f} GiB "
            f"with a step's scores, and {pair.device} has {free / 2**30:.1f} GiB free: lower "
            "method.crd.dimension, method.crd.negatives or data.batch_size, or choose another "
            "method.name"
        )
