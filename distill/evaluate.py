"""Accuracy of a classifier on a split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bundle.progress import Progress, Silent


@dataclass(frozen=True)
class Evaluation:
    """Counts over images; sums over processes make the whole split's."""

    images: int
    top1_hits: int
    top5_hits: int
    loss_sum: float

    @property
    def top1(self) -> float:
        """Per cent."""
        return 100.0 * self.top1_hits / max(self.images, 1)

    @property
    def top5(self) -> float:
        """Per cent of images whose label is among the five best (of all, where there are fewer)."""
        return 100.0 * self.top5_hits / max(self.images, 1)

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return self.loss_sum / max(self.images, 1)

    def counts(self, device: torch.device) -> Tensor:
        """float64 [4], to be summed over processes and given to `of_counts`."""
        values = [self.images, self.top1_hits, self.top5_hits, self.loss_sum]
        return torch.tensor(values, dtype=torch.float64, device=device)

    @classmethod
    def of_counts(cls, counts: Tensor) -> Evaluation:
        """From float64 [4]."""
        images, top1, top5, loss = counts.tolist()
        return cls(int(images), int(top1), int(top5), loss)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    autocast: bool = False,
    channels_last: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Run ``model`` in eval mode over (input [b, 3, S, S], labels [b]) pairs.

    The model's own mode comes back afterwards. Nothing waits for the device until the end.
    """
    progress = progress or Silent()
    training = model.training
    model.eval()
    total: Tensor | None = None
    for inputs, labels in batches:
        if channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=autocast):
            logits = model(inputs).float()
        counts = _counts(logits, labels)
        total = counts if total is None else total + counts
        progress.advance(len(labels))
    model.train(training)
    return Evaluation(0, 0, 0, 0.0) if total is None else Evaluation.of_counts(total)


def _counts(logits: Tensor, labels: Tensor) -> Tensor:
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    values = [
        best.new_full((), len(labels), dtype=torch.float64),
        best[:, 0].sum(),
        best.sum(),
        loss,
    ]
    return torch.stack([value.double() for value in values])


@torch.no_grad()
def best_classes(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    k: int = 5,
    progress: Progress | None = None,
) -> Tensor:
    """The ``k`` most likely classes of every image, best first: int64 [N, min(k, C)], on the CPU.

    In eval mode and float32; the model's own mode comes back afterwards.
    """
    progress, training = progress or Silent(), model.training
    model.eval()
    batch_classes = []
    for inputs, labels in batches:
        logits = model(inputs).float()
        batch_classes.append(logits.topk(min(k, logits.shape[1]), dim=1).indices)
        progress.advance(len(labels))
    model.train(training)
    return torch.cat(batch_classes).cpu() if batch_classes else torch.empty(0, k, dtype=torch.int64)
