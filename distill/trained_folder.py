"""The folder `trained` that a training phase leaves, found by whoever starts from its weights."""

from __future__ import annotations

from pathlib import Path

from ..bundle.trained import RECORD, WEIGHTS, TrainedModel, load_trained
from ..models.architecture_config import ModelConfig

TRAINED = "trained"


def weights_file(weights: Path) -> Path:
    """The file that `weights` means: itself, or the one in a folder that a training phase left."""
    return _inner(weights) / WEIGHTS if weights.is_dir() else weights


def trained_record(config: ModelConfig) -> TrainedModel | None:
    """The record beside the weights, where they are a folder of ours, or the file in it."""
    path = Path(config.weights).expanduser() if config.weights else None
    if path is not None and path.name == WEIGHTS and (path.parent / RECORD).is_file():
        path = path.parent
    if path is None or not path.is_dir():
        return None
    return load_trained(_inner(path))[0]


def _inner(folder: Path) -> Path:
    inner = folder / TRAINED
    return inner if inner.is_dir() and not (folder / RECORD).is_file() else folder
