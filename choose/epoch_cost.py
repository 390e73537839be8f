"""What an epoch of training costs on this machine, measured on a few batches."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..bundle.progress import Silent
from ..bundle.trained import read_trained
from ..data.split import Split
from ..distill import training_run
from ..distill.methods.method_registry import MethodConfig
from ..distill.phase import Phase, Training
from ..models.architecture_config import ModelConfig

_BATCHES = 4


def seconds_per_epoch(phase: Phase, config: ModelConfig, training: Training, threads: int) -> float:
    """Seconds of an epoch of ``config`` on ``threads``, validation among them.

    A few batches are trained on labels as the trainer trains them, and as large a part of the
    validation split is asked; what the first batch takes more makes the figure a cautious one.
    Raises MldrError where the model does not train.
    """
    train, val = phase.dataset.train, phase.dataset.val
    pictures = min(len(train), _BATCHES * phase.data.batch_size)
    share = pictures / len(train)
    part = replace(
        phase.dataset, train=_first(train, pictures), val=_first(val, round(share * len(val)))
    )
    train_config = training.train
    update = {"threads": train_config.threads or threads, "epochs": 1, "parts": "all"}
    short = train_config.model_copy(update=update | {"teacher_views": 0})
    bare = config.model_copy(update={"weights": None, "fresh_head": False})
    with tempfile.TemporaryDirectory(prefix="mldr-choose-") as name:
        trained = training_run.distill(
            replace(phase, dataset=part, folder=Path(name), progress=Silent()),
            bare,
            None,
            MethodConfig(name="scratch"),
            training.model_copy(update={"train": short}),
        )
        return read_trained(trained).metrics["train_seconds"] / share


def _first(split: Split, count: int) -> Split:
    return split.subset(np.arange(count))
