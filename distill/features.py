"""The features that a frozen model's classifier sees of every view, computed once and stored.

FOLDER/features.npy   float16 [rows, B, F]; laid out, locked and resumed as a teacher's logits are

B the global batch, F the width of the features, V pictures of a split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import MldrError
from ..models.evaluation import evaluating
from ..models.stages import StagePlan, forward_stages
from .fast_features import Pooled
from .teacher_cache import TeacherCache

_BLOCK = 4096  # views whose features are in memory, in float32, at a time
_TOLERANCE = 1e-3  # difference of two ways to the same logits, as a part of the largest


class FeatureCache(TeacherCache):
    """Features by row of `Views`."""

    content: ClassVar[str] = "kept features"
    file: ClassVar[str] = "features.npy"
    key: ClassVar[str] = "train.head_views"

    def blocks(self, pictures: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of all features, float32 [n, F], and the picture of each, int64 [n].

        ``pictures``: int64 [rows, B], as `Views.pictures` gives them.
        """
        rows, batch, width = self._logits.shape
        step = max(_BLOCK // batch, 1)
        for first in range(0, rows, step):
            block = torch.from_numpy(np.array(self._logits[first : first + step])).float()
            yield block.view(-1, width), pictures[first : first + step].reshape(-1)


def classifier_of(model: nn.Module, plan: StagePlan, name: str, side: int) -> tuple[str, nn.Linear]:
    """The linear layer that makes the logits of the pooled features, and its name in ``model``.

    Raises MldrError for a model whose logits come about in another way.
    """
    getter = getattr(model, "get_classifier", None)
    layer = getter() if callable(getter) else None
    if isinstance(layer, nn.Linear) and layer.bias is not None and plan.pooled_width:
        like = next(model.parameters())
        noise = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        with evaluating(model):
            output = forward_stages(model, noise.to(like), plan, features=True)
            assert output.features is not None
            if output.features.shape[1] == layer.in_features:
                deviation = (layer(output.features) - output.logits).abs().max()
                if deviation <= _TOLERANCE * output.logits.abs().max():
                    layer_path = next(path for path, part in model.named_modules() if part is layer)
                    return layer_path, layer
    raise MldrError(
        f"the logits of {name} are not one linear layer of its pooled features, so its classifier "
        "cannot be taught alone: set train.parts=all"
    )


def features_of(
    pooled: Pooled, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor] | None:
    """(features float32 [V, F], labels int64 [V]) of a split in order; None where it is empty."""
    pairs = [(pooled(inputs).cpu(), labels.cpu()) for inputs, labels in batches]
    if not pairs:
        return None
    features, labels = zip(*pairs, strict=True)
    return torch.cat(features), torch.cat(labels)
