"""The sources by the name that ``data.source`` starts with."""

from __future__ import annotations

from collections.abc import Callable

from ...bundle.progress import Progress
from ..data_config import DataConfig
from ..raw import RawDataset
from . import cifar100, csv_file, digits, hub, image_folder, parquet, tiny_imagenet

Source = Callable[[DataConfig, Progress], RawDataset]

SOURCES: dict[str, Source] = {
    "digits": digits.load,
    "cifar100": cifar100.load,
    "tiny-imagenet": tiny_imagenet.load,
    "folder": image_folder.load,
    "parquet": parquet.load,
    "csv": csv_file.load,
    "hf": hub.load,
}
