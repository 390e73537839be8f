"""A teacher tried out on labelled pictures before it teaches: refused where it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..bundle.chance import Chance
from ..bundle.trained import read_trained
from ..data.dataset import Dataset
from ..data.loader import EvalBatches
from ..data.split import Split
from ..errors import MldrError
from .order_search import BetterOrder, better_order
from .phase import Phase
from .task import FrozenTeacher

_BATCH = 250  # images
_PER_CLASS, _LEAST = 10, 100  # validation pictures below which training pictures are taken
_SAMPLE = 4  # times as many of those
_VALIDATION = "validation images"
_LISTED = 30  # classes that a message lists in order
_FROM_ELSEWHERE = (
    "its outputs may stand for other classes, or it wants images of another size: give weights "
    "made for this data, or train a new classifier on them (teacher.fresh_head=true)"
)
_TRAINED_HERE = (
    "train it longer (teacher.train.epochs), start from published weights (teacher.weights=timm "
    "with teacher.fresh_head=true), or look at the labels"
)


@dataclass(frozen=True)
class Tryout:
    """A teacher's answers to labelled pictures."""

    outputs: NDArray[np.int64]  # [N] its largest output
    finite: NDArray[np.bool_]  # [N] whether all of its outputs are
    labels: NDArray[np.int64]  # [N]
    where: str  # what the pictures are

    @property
    def chance(self) -> Chance:
        """Its score against naming the largest class."""
        hits = (self.outputs == self.labels) & self.finite
        return chance_of(int(hits.sum()), self.labels)

    @property
    def top1(self) -> float:
        """Its accuracy, per cent."""
        return 100 * self.chance.hits / self.chance.images


def chance_of(hits: int, labels: NDArray[np.int64]) -> Chance:
    """``hits`` on pictures of these labels, against naming the largest class."""
    return Chance(images=len(labels), hits=hits, largest=int(np.bincount(labels).max()))


def require_worth(
    teacher: FrozenTeacher, who: str, trained: Path | None, phase: Phase
) -> float | None:
    """Top-1 of ``teacher`` on the validation split, per cent; None where others were measured.

    Raises MldrError where it has nothing to teach, or something else than the labels.

    ``trained``: the folder of a teacher that was trained on this data, whose own validation figures
    are judged; None for weights from elsewhere, which are tried out, and their accuracy noted.
    ``who`` names the teacher in messages.
    """
    evidence = None if trained is None else read_trained(trained).evidence
    if evidence is not None and evidence.images == len(phase.dataset.val):
        hits = round(evidence.top1 * evidence.images / 100)
        _require_better(chance_of(hits, phase.dataset.val.labels), _VALIDATION, who, _TRAINED_HERE)
        return evidence.top1
    trial = try_out(teacher, phase)
    phase.progress.note(f"{who}, on {trial.where}: {trial.chance}")
    _require_finite(trial, who)
    if trained is None:
        _require_order(trial, phase.dataset.classes, who)
    _require_better(
        trial.chance, trial.where, who, _FROM_ELSEWHERE if trained is None else _TRAINED_HERE
    )
    return trial.top1 if trial.where == _VALIDATION else None


def try_out(teacher: FrozenTeacher, phase: Phase) -> Tryout:
    """The answers of ``teacher`` on the validation split, or on training images where it is small.

    In fp32, under the teacher's own preprocessing; every process asks for all of them.
    """
    split, where = _pictures(phase.dataset)
    device, threads, progress = phase.accelerator.device, phase.data.workers, phase.progress
    batches = EvalBatches(split, teacher.preprocessing, _BATCH, device, threads=threads)
    model = teacher.model.to(device).eval()
    outputs, finite = [], []
    progress.start("measuring the teacher", len(split))
    with torch.inference_mode():
        for inputs, labels in batches:
            logits = model(inputs).float()
            outputs.append(logits.argmax(dim=1).cpu())
            finite.append(logits.isfinite().all(dim=1).cpu())
            progress.advance(len(labels))
    progress.finish()
    return Tryout(torch.cat(outputs).numpy(), torch.cat(finite).numpy(), split.labels, where)


def _require_finite(trial: Tryout, who: str) -> None:
    broken = int((~trial.finite).sum())
    if broken:
        raise MldrError(
            f"{who} answers with NaN or infinity to {broken} of {len(trial.labels)} {trial.where}: "
            "its weights are broken, or are another architecture's; give other weights"
        )


def _require_order(trial: Tryout, classes: tuple[str, ...], who: str) -> None:
    better = better_order(trial.outputs, trial.labels, classes)
    if better is not None:
        raise MldrError(_misordered(better, trial, classes, who))


def _require_better(chance: Chance, where: str, who: str, advice: str) -> None:
    if not chance and chance.can_tell:
        raise MldrError(f"{who} has nothing to teach, on {where}: {chance}; {advice}")


def _misordered(better: BetterOrder, trial: Tryout, classes: tuple[str, ...], who: str) -> str:
    names = better.names(classes)
    if better.name:
        looks = f"{better.name} order ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        key = f'set teacher.class_order="{better.name}"'
    else:
        looks = "another order than the data"
        known = f"probably {names}" if len(names) <= _LISTED else "its training program has it"
        key = f"set teacher.class_order to the class names in the order of its outputs ({known})"
    return (
        f"{who} has its classes in {looks}: top-1 {trial.top1:.2f} % of {len(trial.labels)} "
        f"{trial.where} as it is, {better.top1:.2f} % in that order; {key}"
    )


def _pictures(dataset: Dataset) -> tuple[Split, str]:
    """What to measure on, and what to call it."""
    val, train = dataset.val, dataset.train
    enough = max(_LEAST, _PER_CLASS * len(dataset.classes))
    if len(val) >= min(enough, len(train)):
        return val, _VALIDATION
    count = min(_SAMPLE * enough, len(train))
    chosen = np.random.default_rng(0).choice(len(train), count, replace=False)
    held = f"only {len(val)}" if len(val) else "none"
    return train.subset(np.sort(chosen)), f"training images ({held} are for validation)"
