"""What training leaves is not what it evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mldr_deploy.bundle.trained import TrainedModel

from .fault import CLASSES, EVIDENCE, NOT_EVALUATED, Fault
from .harness import Inject, in_trained_folder, in_training
from .subjects import Subject, Tensors

BRIGHT = {"mean": (0.5, 0.5, 0.5)}


def respecified(everywhere: bool = False, **changes: Any) -> Inject:
    """Training's record has other preprocessing; with ``everywhere`` in its evidence too."""

    def change(subject: Subject) -> tuple[TrainedModel, Tensors]:
        record = subject.record
        spec = record.preprocessing.model_copy(update=changes)
        assert record.evidence is not None
        seen = record.evidence.model_copy(update={"preprocessing": spec})
        updates = {"preprocessing": spec, **({"evidence": seen} if everywhere else {})}
        return record.model_copy(update=updates), subject.tensors

    return in_training(change)


def kept(choose: Callable[[Subject], Tensors]) -> Inject:
    """Training keeps other tensors than it evaluated."""
    return in_training(lambda subject: (subject.record, choose(subject)))


def renamed(subject: Subject) -> tuple[TrainedModel, Tensors]:
    classes = subject.record.classes
    return subject.record.model_copy(update={"classes": classes[1:] + classes[:1]}), subject.tensors


def permuted_head(subject: Subject) -> Tensors:
    order = np.roll(np.arange(10), 1)
    head = [name for name in subject.tensors if name.startswith(("fc.", "head."))]
    return {**subject.tensors, **{name: subject.tensors[name][order] for name in head}}


def one_nan(subject: Subject) -> Tensors:
    tensors = {name: array.copy() for name, array in subject.tensors.items()}
    tensors["layer2.0.conv1.weight"].flat[7] = np.nan
    return tensors


def other_file(folder: Path, subject: Subject) -> None:
    save_file(subject.earlier, folder / "weights.safetensors")


TRAINING_FAULTS = [
    Fault(
        "wrong mean",
        "cnn",
        EVIDENCE,
        (NOT_EVALUATED, r"preprocessing\.mean"),
        respecified(**BRIGHT),
    ),
    Fault(
        "wrong std",
        "cnn",
        EVIDENCE,
        (NOT_EVALUATED, r"preprocessing\.std"),
        respecified(std=(1.0, 1.0, 1.0)),
    ),
    Fault(
        "BGR for RGB",
        "cnn",
        EVIDENCE,
        (NOT_EVALUATED, r"preprocessing\.channel_order"),
        respecified(channel_order="bgr"),
    ),
    Fault(
        "wrong resize",
        "cnn",
        EVIDENCE,
        (NOT_EVALUATED, r"preprocessing\.interpolation"),
        respecified(interpolation="nearest"),
    ),
    Fault(
        "wrong crop",
        "cnn",
        EVIDENCE,
        (NOT_EVALUATED, r"preprocessing\.crop_fraction"),
        respecified(crop_fraction=0.875),
    ),
    Fault(
        "wrong std that training's own record repeats",
        "cnn",
        EVIDENCE,
        (NOT_EVALUATED, "validation loss .* where training recorded"),
        respecified(True, std=(0.2, 0.2, 0.2)),
    ),
    Fault(
        "permuted labels",
        "cnn",
        CLASSES,
        ("class 0 is called '1' and is '0' in digits",),
        in_training(renamed),
    ),
    Fault(
        "permuted head in weights and artifact alike",
        "cnn",
        EVIDENCE,
        (NOT_EVALUATED, "validation top-1"),
        kept(permuted_head),
    ),
    Fault(
        "non-EMA weights",
        "cnn",
        EVIDENCE,
        (NOT_EVALUATED, "not the moving average"),
        kept(lambda s: s.unaveraged),
    ),
    Fault(
        "non-EMA weights (transformer)",
        "vit",
        EVIDENCE,
        (NOT_EVALUATED, "not the moving average"),
        kept(lambda s: s.unaveraged),
    ),
    Fault(
        "another epoch's weights",
        "vit",
        EVIDENCE,
        (NOT_EVALUATED, "another epoch"),
        kept(lambda s: s.earlier),
    ),
    Fault(
        "another epoch's weights file",
        "cnn",
        "hash of the weights",
        (r"weights\.safetensors is not the file that training wrote",),
        in_trained_folder(other_file),
    ),
    Fault(
        "NaN weight left by training",
        "cnn",
        "reader of the run",
        (r"tensor layer2\.0\.conv1\.weight holds NaN",),
        kept(one_nan),
    ),
]
