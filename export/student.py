"""The trained student, rebuilt from what training left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from pydantic import ValidationError

from ..bundle.reader import Bundle
from ..bundle.trained import TrainedModel, load_trained
from ..errors import MldrError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Student:
    """A model in fp32 evaluation mode and the record that it was rebuilt from."""

    model: nn.Module
    record: TrainedModel


def load_student(trained: Path) -> Student:
    """The student of a run's folder. Raises MldrError when it does not rebuild."""
    record, tensors = load_trained(trained)
    model = rebuild(record.model, record.num_classes, record.image_size, tensors, str(trained))
    return Student(model, record)


def bundled_model(bundle: Bundle) -> nn.Module:
    """The student that a bundle was exported from. Raises MldrError when it does not rebuild."""
    manifest = bundle.manifest
    classes, where = len(manifest.labels), str(bundle.path)
    return rebuild(manifest.model, classes, manifest.image_size, bundle.weights(), where)


def rebuild(
    model: dict[str, Any],
    num_classes: int,
    image_size: int,
    tensors: dict[str, NDArray[Any]],
    where: str,
) -> nn.Module:
    """Create the configured model without pretrained weights and load ``tensors`` strictly."""
    import torch

    from ..models.config import ModelConfig
    from ..models.registry import create_model

    try:
        config = ModelConfig(**{**model, "weights": None})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise MldrError(
            f"{where}: model.{key}: {first['msg']}: export with the version that trained it"
        ) from None
    built = create_model(config, num_classes=num_classes, image_size=image_size)
    state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    try:
        built.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise MldrError(
            f"{where}: the weights do not fit {config.name} ({reason[:300]}): the installed timm "
            "builds another model than the one that was trained"
        ) from None
    return built.float().eval()
