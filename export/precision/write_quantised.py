"""What the artifacts of 8 bits have in common."""

from __future__ import annotations

from typing import Any

from ...bundle.precisions import PRECISIONS
from ..job import ArtifactKind, Job, Written
from .graph import opset_of, save_graph
from .qdq import Scheme
from .search import Convert, search


def quantised_kind(
    precision: str, scheme: Scheme, convert: Convert | None = None, **run: Any
) -> ArtifactKind:
    """The kind that writes the best graph of ``search``; ``run``: how it is run, if not by itself.

    Writing raises MldrError without images to calibrate on or to judge by.
    """

    def write(job: Job) -> Written:
        proto, record = search(job, precision, scheme, convert)
        save_graph(proto, job.onnx(precision))
        return Written(PRECISIONS[precision].file, opset=opset_of(proto), quantization=record)

    return ArtifactKind(write, **run)
