"""From logits to probabilities."""

from __future__ import annotations

import numpy as np

from ..bundle.preprocess import Floats
from ..bundle.temperature import softmax
from .request_refusal import RequestRefusal


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Softmax of one image's logits [C] over ``temperature``: 1 where nobody calibrated them.

    Raises RequestRefusal where they are not finite.
    """
    if not np.isfinite(logits).all():
        raise RequestRefusal(400, "nonfinite", "the model gives no finite answer to this image")
    shares: Floats = softmax(logits[None], temperature)[0].astype(np.float32)
    return shares
