"""The trained student, rebuilt from what training left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle.reader import Bundle
from ..bundle.trained import TrainedModel, load_trained

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Student:
    """A model in fp32 evaluation mode and the record that it was rebuilt from."""

    model: nn.Module
    record: TrainedModel


def load_student(trained: Path) -> Student:
    """The student of a run's folder. Raises MldrError when it does not rebuild."""
    from ..models.rebuild import rebuild

    record, tensors = load_trained(trained)
    model = rebuild(record.model, record.num_classes, record.image_size, tensors, str(trained))
    return Student(model, record)


def bundled_model(bundle: Bundle) -> nn.Module:
    """The student that a bundle was exported from. Raises MldrError when it does not rebuild."""
    from ..models.rebuild import rebuild

    manifest = bundle.manifest
    classes, source = len(manifest.labels), str(bundle.path)
    return rebuild(manifest.model, classes, manifest.image_size, bundle.weights(), source)


def first_difference(labels: Sequence[str], classes: Sequence[str], source: str) -> str:
    """Where ``labels`` leave the ``classes`` of the data set ``source``, in words."""
    if len(labels) != len(classes):
        return (
            f"{len(labels)} classes are known ({labels[0]}, ...) where {source} has "
            f"{len(classes)} ({classes[0]}, ...)"
        )
    index = next(k for k, name in enumerate(classes) if labels[k] != name)
    return f"class {index} is called {labels[index]!r} and is {classes[index]!r} in {source}"
