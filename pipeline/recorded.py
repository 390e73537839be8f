"""The data set that a trained model or a bundle names, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bundle.progress import Progress
from ..data.config import DataConfig
from ..data.dataset import Dataset, load_dataset
from .validation import validated


def recorded_dataset(
    recorded: dict[str, Any], source: str | None, root: Path | None, *, progress: Progress
) -> Dataset:
    """Load the data set of the configuration ``recorded``.

    ``source`` and ``root`` replace what it says; a replaced source also loses the recorded root
    and column names, which belonged to the other data set.

    Raises:
        MldrError: the configuration is not valid, or the data set cannot be read.
        Unavailable: the data set is not on this machine and cannot be fetched.
    """
    return load_dataset(recorded_config(recorded, source, root), progress=progress)


def recorded_config(recorded: dict[str, Any], source: str | None, root: Path | None) -> DataConfig:
    """The ``DataConfig`` behind ``recorded_dataset``."""
    settings = dict(recorded)
    if source is not None and source != settings.get("source"):
        settings |= {"source": source, "root": None, "image_column": None, "label_column": None}
    if root is not None:
        settings["root"] = str(root)
    return validated(DataConfig, settings, "data")
