"""The rebuilt student held against its data set and what training measured of it.

``bundle/evidence.py`` says why parity alone is not enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..bundle.evidence import Evidence
from ..bundle.preprocess import Floats, Preprocessing
from ..bundle.progress import Progress
from ..errors import MldrError
from ..runtimes.runtime import Predictor
from .measure_parity import log_softmax
from .torch_reference import torch_reference
from .trained_student import Student, first_difference

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..data.split import Split

_BATCH = 250  # images; evaluation keeps no activations


def require_same_data(student: Student, dataset: Dataset, trained: Path) -> None:
    """Raise MldrError unless ``dataset`` is what the student was trained on, names included."""
    record = student.record
    if record.data_fingerprint != dataset.fingerprint:
        raise MldrError(
            f"{trained} was trained on other data than {dataset.source} as it is now: parity is "
            "proven on the test split of the same data set; restore it or train again"
        )
    if record.classes != [*dataset.classes]:
        raise MldrError(
            f"{trained}: {first_difference(record.classes, dataset.classes, dataset.source)}: the "
            "logits would bear wrong names; restore model.json or train again"
        )


def require_same_function(
    student: Student, dataset: Dataset, trained: Path, progress: Progress, threads: int = 0
) -> tuple[Floats, NDArray[np.int64]] | None:
    """The student's logits [N, C] and the labels [N] of validation; None where nothing is recorded.

    ``threads`` compute them; 0: as many as PyTorch has.

    Raises MldrError where the student does not score what training recorded of it.
    """
    evidence, spec = student.record.evidence, student.record.preprocessing
    if evidence is None:
        progress.note(f"{trained} records no validation figures: nothing to hold the student to")
        return None
    with torch_reference(student.model, threads) as reference:
        answers = validation_answers(reference, dataset.val, spec, progress)
    repeated = None if answers is None else evidence_of(*answers, spec)
    broken = evidence.contradicted_by(repeated)
    if broken:
        fed_otherwise = broken[0].kind == "preprocessing"
        cause = (
            "the preprocessing was changed"
            if fed_otherwise
            else "other weights were kept (another epoch, or not the moving average), images are "
            "fed otherwise, or this timm builds another model"
        )
        details = "; ".join(map(str, broken))
        raise MldrError(
            f"{trained} is not what training evaluated ({details}): {cause}; restore the folder or "
            "train again"
        )
    return answers


def validation_answers(
    reference: Predictor, validation: Split, preprocessing: Preprocessing, progress: Progress
) -> tuple[Floats, NDArray[np.int64]] | None:
    """Logits [N, C] of the whole split and its labels [N]; None where it is empty."""
    from ..data.loader import EvalBatches

    if not len(validation):
        return None
    logits, truth = [], []
    progress.start("evidence of training", len(validation))
    for inputs, labels in EvalBatches(validation, preprocessing, _BATCH, "cpu"):
        logits.append(reference(inputs.numpy()))
        truth.append(labels.numpy())
        progress.advance(len(labels))
    progress.finish()
    return np.concatenate(logits), np.concatenate(truth)


def evidence_of(
    logits: Floats, labels: NDArray[np.int64], preprocessing: Preprocessing
) -> Evidence | None:
    """What training records of these answers; None where a logit is not finite (parity tells)."""
    parts = [slice(start, start + _BATCH) for start in range(0, len(labels), _BATCH)]
    loss = sum(_cross_entropy(logits[part], labels[part]) for part in parts)
    if not np.isfinite(loss):
        return None
    count, hits = len(labels), int((logits.argmax(axis=1) == labels).sum())
    return Evidence(
        images=count, top1=100 * hits / count, loss=loss / count, preprocessing=preprocessing
    )


def _cross_entropy(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Sum over the batch of -log softmax(logits)[label]."""
    return -float(log_softmax(logits)[np.arange(len(labels)), labels].sum())
