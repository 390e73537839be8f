"""Small data sets on disk for the tests of this folder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mldr_deploy.bundle.progress import Silent


class Notes(Silent):
    """Keeps what is noted while data are read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class Disk:
    """Pictures, class folders and Parquet tables, written under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def picture(seed: int, height: int = 16, width: int = 16) -> Image.Image:
        rng = np.random.default_rng(seed)
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    @staticmethod
    def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    def folder(
        self, classes: tuple[str, ...] = ("ant", "bee"), each: int = 6, side: int = 16
    ) -> Path:
        """train/ and val/ with ``each`` (val: 2) pictures a class."""
        for split, count in (("train", each), ("val", 2)):
            for label, name in enumerate(classes):
                place = self.root / split / name
                place.mkdir(parents=True)
                for index in range(count):
                    seed = 1000 * label + 10 * index + (split == "val")
                    self.picture(seed, side, side).save(place / f"{index}.png")
        return self.root

    def table(self, name: str, columns: dict[str, object], features: str | None = None) -> Path:
        """A Parquet file; ``features`` is Hugging Face's schema metadata."""
        table = pa.table(columns)
        if features is not None:
            table = table.replace_schema_metadata({"huggingface": features})
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, self.root / name)
        return self.root / name

    def rows(self, count: int, seed: int = 0) -> list[bytes]:
        return [self.encoded(self.picture(seed + index)) for index in range(count)]


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)
