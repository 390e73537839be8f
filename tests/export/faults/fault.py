"""One entry of the catalogue, and who may notice it."""

from __future__ import annotations

from dataclasses import dataclass

from .harness import Inject

EVIDENCE, CLASSES, READER = "evidence of training", "class names", "reader of the bundle"
PARITY, GRAPH, GOLDEN = "parity", "graph's own claims", "golden logits"
SCALES = "scales of the real images"
LOADING = "loading in ONNX Runtime"
NOT_EVALUATED = "is not what training evaluated"


@dataclass(frozen=True)
class Fault:
    """``says``: patterns that the alarm must all contain, the fault's own place among them."""

    name: str
    subject: str  # cnn, vit or vim
    gate: str
    says: tuple[str, ...]
    inject: Inject
