"""Class folders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.errors import MldrError


def load(path: object) -> Dataset:
    return load_dataset(DataConfig(source=f"folder:{path}", batch_size=2, val_fraction=0))


def test_it_reads_what_torchvisions_image_folder_reads(disk: Any) -> None:
    from torchvision.datasets import ImageFolder

    path = disk.folder(("bee", "ant", "Cat"))
    deep = path / "train" / "ant" / "more"
    deep.mkdir()
    disk.picture(5).save(deep / "z.PNG")
    (path / "train" / "bee" / "notes.txt").write_text("not a picture")
    data, theirs = load(path), ImageFolder(str(path / "train"))
    assert list(data.classes) == theirs.classes == ["Cat", "ant", "bee"]
    assert data.train.pixels is not None
    ours = {data.train.name(i): i for i in range(len(data.train))}
    assert len(ours) == len(theirs) == 19
    for number, (file, label) in enumerate(theirs.samples):
        index = ours[str(file).removeprefix(f"{path}/")]
        assert data.train.labels[index] == label
        assert np.array_equal(data.train.pixels[index], np.asarray(theirs[number][0]))


def test_val_is_the_test_split_unless_there_is_one(disk: Any) -> None:
    path = disk.folder()
    assert len(load(path).test) == 4
    for name in ("ant", "bee"):
        (path / "test" / name).mkdir(parents=True)
        disk.picture(8).save(path / "test" / name / "0.png")
    data = load(path)
    assert [len(part) for part in (data.train, data.val, data.test)] == [12, 4, 2]


def test_hidden_files_and_folders_are_ignored(disk: Any) -> None:
    path = disk.folder()
    (path / "train" / ".cache").mkdir()
    (path / "train" / "ant" / "._0.png").write_bytes(b"left by another system")
    assert len(load(path).train) == 12


def test_a_missing_train_folder_is_refused(disk: Any) -> None:
    path = disk.folder()
    (path / "train").rename(path / "elsewhere")
    with pytest.raises(MldrError, match="has no train/ folder: train/ and val/ hold"):
        load(path)
