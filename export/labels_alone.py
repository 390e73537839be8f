"""The same student by labels alone, where a run of it is named, for the lesson to be held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bundle.lesson import Rival
from ..bundle.trained import TrainedModel, read_trained
from ..errors import MldrError
from .export_config import ExportConfig

_WEIGHTS = ("weights", "fresh_head")  # keys of a model that say where it begins, not what it is
_SPLIT = ("val_fraction", "split_seed")  # keys of the data that choose validation images


def labels_alone(student: TrainedModel, config: ExportConfig) -> Rival | None:
    """The student of ``config.labels_alone``; None where none is named.

    Raises MldrError where it is another model, learned otherwise, or was measured on other images.
    """
    if config.labels_alone is None:
        return None
    folder = Path(config.labels_alone)
    plain = read_trained(folder)
    recipe = plain.provenance.get("recipe", {})
    differences = {
        f"another model ({plain.model.get('name')})": _name(plain) != _name(student),
        "other keys of its [student]": _shape(plain) != _shape(student),
        f"images of {plain.image_size} px": plain.image_size != student.image_size,
        "other data": plain.data_fingerprint != student.data_fingerprint,
        "other validation images": any(plain.data.get(k) != student.data.get(k) for k in _SPLIT),
        "a teacher": recipe.get("method", {}).get("name") != "scratch",
        "no validation figures": plain.evidence is None,
    }
    difference = next((name for name, differs in differences.items() if differs), None)
    if difference is not None or plain.evidence is None:
        raise MldrError(
            f"export.labels_alone={folder} was trained with {difference}: name a run of "
            f"{_name(student)} on the same data and split with method.name=scratch"
        )
    return Rival(name="the same student by labels alone", top1=plain.evidence.top1)


def _name(trained: TrainedModel) -> str:
    return str(trained.model.get("name"))


def _shape(trained: TrainedModel) -> dict[str, Any]:
    return {key: value for key, value in trained.model.items() if key not in _WEIGHTS}
