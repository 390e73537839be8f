"""The sources by the name that ``data.source`` starts with."""

from __future__ import annotations

from collections.abc import Callable

from ...bundle.progress import Progress
from ..config import DataConfig
from ..raw import RawDataset
from . import cifar100, digits

Source = Callable[[DataConfig, Progress], RawDataset]

SOURCES: dict[str, Source] = {
    "digits": digits.load,
    "cifar100": cifar100.load,
}
