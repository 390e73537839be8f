"""The data set that a trained model or a bundle names, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bundle.progress import Progress
from ..data.data_config import PATH_SOURCES, DataConfig, located
from ..data.dataset import Dataset, load_dataset
from ..errors import Unavailable
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
    config = recorded_config(recorded, source, root)
    if source is None:
        _require_here(config)
    try:
        return load_dataset(config, progress=progress)
    except Unavailable as error:
        raise Unavailable(f"{error}; on the command line: --data-root, or --data SOURCE") from error


def recorded_config(recorded: dict[str, Any], source: str | None, root: Path | None) -> DataConfig:
    """The ``DataConfig`` behind ``recorded_dataset``."""
    settings = dict(recorded)
    if source is not None and located(source) != located(str(settings.get("source"))):
        settings |= {"source": source, "root": None, "image_column": None, "label_column": None}
    if root is not None:
        settings["root"] = str(root)
    elif (recorded_root := settings.get("root")) and not Path(recorded_root).expanduser().is_dir():
        settings["root"] = None  # of the machine that recorded it
    return validated(DataConfig, settings, "data")


def _require_here(config: DataConfig) -> None:
    """Raises Unavailable where the recorded file or folder is not on this machine, or is empty.

    An empty folder is what a volume leaves that is not mounted.
    """
    kind, _, name = config.source.partition(":")
    path = Path(name).expanduser().absolute()
    if kind in PATH_SOURCES and not (path.is_file() or (path.is_dir() and any(path.iterdir()))):
        raise Unavailable(
            f"the data set {config.source} is not on this machine ({path} is not there, or empty): "
            f"say where it lies, --data {kind}:PATH"
        )
