"""The data set read last, for the runs of one process that follow each other with it."""

from __future__ import annotations

from ..bundle.progress import Progress
from ..data.data_config import DataConfig
from ..data.dataset import Dataset, load_dataset


class RecentData:
    """Reads data sets and keeps the last one. Processes forked later share its pictures."""

    def __init__(self) -> None:
        self._last: tuple[DataConfig, Dataset] | None = None

    def load(self, config: DataConfig, *, progress: Progress | None = None) -> Dataset:
        """The data set of ``config``. Raises as `load_dataset` does."""
        if self._last is None or self._last[0] != config:
            self._last = None  # frees its memory for the next one
            self._last = config, load_dataset(config, progress=progress)
        return self._last[1]
