"""The protocol's classification extension: an output's best classes in place of its logits.

n images, C classes, k of them asked for.
"""

from __future__ import annotations

import numpy as np

from ..bundle.preprocess import Floats


def best_classes(logits: Floats, count: int, labels: list[str]) -> list[str]:
    """``logit:index:label`` of the highest ``count`` of ``logits`` [n, C], best first: [n * k].

    k is ``count``, or C where that is less; equal logits keep the order of their classes.
    """
    order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    return [
        f"{row[index]:f}:{index}:{labels[index]}"
        for row, indices in zip(logits, order, strict=True)
        for index in indices
    ]


def length_prefixed(strings: list[str]) -> bytes:
    """A BYTES tensor as raw data: each element's length in four little-endian bytes before it."""
    encoded = [text.encode() for text in strings]
    return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
