"""A trained model back from its description and its tensors."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError
from torch import from_numpy, nn

from ..errors import MldrError
from .architecture_config import ModelConfig
from .model_registry import create_model


def rebuild(
    model: dict[str, Any],
    num_classes: int,
    image_size: int,
    tensors: dict[str, NDArray[Any]],
    origin: str,
) -> nn.Module:
    """Create the configured model without pretrained weights and load ``tensors`` strictly.

    The model is on the CPU, in float32 and evaluation mode. Raises MldrError, beginning with
    ``origin``, when the description or the tensors do not fit what this version builds.
    """
    try:
        config = ModelConfig(**{**model, "weights": None})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise MldrError(
            f"{origin}: model.{key}: {first['msg']}: export with the version that trained it"
        ) from None
    built = create_model(config, num_classes=num_classes, image_size=image_size)
    state = {name: from_numpy(tensor) for name, tensor in tensors.items()}
    try:
        built.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise MldrError(
            f"{origin}: the weights do not fit {config.name} ({reason[:300]}): the installed timm "
            "builds another model than the one that was trained"
        ) from None
    return built.float().eval()
