"""Fine-tuning: the features learn slowly, and running statistics stay as they are."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..errors import MldrError


def below_head(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of ``model`` that are not its classifier's.

    Raises MldrError for a model that does not tell its classifier.
    """
    getter = getattr(model, "get_classifier", None)
    heads = getter() if callable(getter) else None
    layers = heads if isinstance(heads, tuple | list) else (heads,)
    if not all(isinstance(layer, nn.Module) for layer in layers):
        raise MldrError(
            f"optimizer.below_head: {type(model).__name__} does not tell which layer is its "
            "classifier; set it to 1"
        )
    of_head = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in of_head]


def keep_statistics(model: nn.Module) -> None:
    """Have every norm with running statistics use them as they are, also in training."""
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.eval()
