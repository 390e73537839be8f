"""Parity on a data set's split, and the search for the cause when it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..bundle.parity import Fault, Gate, ParityResult
from ..bundle.preprocess import Floats, Preprocessing, preprocess
from ..bundle.progress import Progress
from ..runtimes.runtime import Predictor, RunError
from .bisect import bisect
from .config import ExportConfig
from .parity import false_colours, measure

if TYPE_CHECKING:
    from torch import nn

    from ..data.split import Split


def prove(
    reference: Predictor,
    artifact: Predictor,
    split: Split,
    preprocessing: Preprocessing,
    *,
    precision: str,
    gate: Gate,
    max_batch: int,
    progress: Progress,
    record: Callable[[Floats, NDArray[np.int64]], None] | None = None,
) -> ParityResult:
    """Parity of two entered runners on every image of ``split``, decoded as it streams.

    ``record`` is given the reference's logits and the labels of every batch.
    """
    from ..data.loader import EvalBatches

    batches = EvalBatches(split, preprocessing, max_batch, "cpu")
    return measure(
        reference,
        artifact,
        ((inputs.numpy(), labels.numpy()) for inputs, labels in batches),
        samples=len(split),
        precision=precision,
        gate=gate,
        max_batch=max_batch,
        progress=progress,
        record=record,
    )


def worst_inputs(split: Split, preprocessing: Preprocessing, parity: ParityResult) -> Floats:
    """The image with the largest difference and its successor [2, 3, H, W]."""
    rows = (parity.worst_index, (parity.worst_index + 1) % len(split))
    return preprocess([split.image(row) for row in rows], preprocessing)


def locate(
    model: nn.Module,
    artifact: Path,
    inputs: Floats,
    config: ExportConfig,
    gate: Gate,
    progress: Progress,
) -> Fault | None:
    """Bisect, for a report: None also when the artifact does not run on ``inputs`` at all.

    Where logits are gated one by one, the inputs are given in false colours too: on grey images
    alone a node that mixes up channels stays in band. (They leave the ranges of int8.)
    """
    progress.start("bisect", None)
    try:
        if gate.max_dlogit is not None:
            inputs = np.concatenate([inputs, false_colours(inputs)])
        return bisect(model, artifact, inputs, config, gate)
    except RunError:
        return None
    finally:
        progress.finish()
