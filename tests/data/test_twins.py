"""Pictures that stand twice are counted, and refused where a test would be known by heart."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.data.twins import pixel_hash
from mldr_deploy.errors import MldrError


def load(path: Path, **keys: Any) -> Dataset:
    return load_dataset(DataConfig(source=f"folder:{path}", **{"batch_size": 2, **keys}))


def copied(disk: Any, form: str) -> Path:
    """Two train pictures stand in val too, in files of another name and format."""
    path: Path = disk.folder(each=8)
    for index, name in enumerate(("ant", "bee")):
        picture = Image.open(path / "train" / name / f"{index}.png")
        picture.save(path / "val" / name / f"copy.{form}")
    return path


@pytest.mark.parametrize("form", ["png", "bmp", "tiff"])
@pytest.mark.parametrize("resident_mib", [2048, 0])
def test_leaks_are_counted_after_decoding(form: str, resident_mib: int, disk: Any) -> None:
    path = copied(disk, form)
    data = load(path, leak_share=1, resident_mib=resident_mib)
    assert (data.report.leaked, data.report.contradicted, len(data.test)) == (2, 0, 6)
    train = {np.asarray(data.train.image(k)).tobytes() for k in range(len(data.train))}
    train |= {np.asarray(data.val.image(k)).tobytes() for k in range(len(data.val))}
    tested = [np.asarray(data.test.image(k)).tobytes() in train for k in range(len(data.test))]
    assert sum(tested) == 2
    assert [*data.report.lines()] == [
        "2 of 6 test images stand in the training images too, pixel by pixel"
    ]


def test_a_leak_beyond_the_share_is_refused_with_an_example(disk: Any) -> None:
    path = copied(disk, "bmp")
    with pytest.raises(MldrError) as raised:
        load(path)
    message = str(raised.value)
    assert message.startswith("2 of 6 test pictures stand in train or validation too")
    assert "(val/ant/copy.bmp is train/ant/0.png)" in message and "data.leak_share" in message
    assert load(path, leak_share=0.34).report.leaked == 2  # 2 of 6


def test_every_leak_is_noted_before_the_refusal(disk: Any, notes: Any) -> None:
    path = copied(disk, "bmp")
    shutil.copy(path / "train" / "bee" / "1.png", path / "train" / "bee" / "again.png")
    shutil.copy(path / "train" / "ant" / "5.png", path / "train" / "ant" / "harmless.png")
    with pytest.raises(MldrError, match=r"remove them from one side, or raise"):
        load_dataset(DataConfig(source=f"folder:{path}", batch_size=2), progress=notes)
    assert notes.lines == [
        "data: the same picture: val/ant/copy.bmp = train/ant/0.png",
        "data: the same picture: val/bee/copy.bmp = train/bee/1.png = train/bee/again.png",
    ]


def test_where_test_was_cut_all_copies_are_noted(disk: Any, notes: Any) -> None:
    """One copy less moves the cut, which would part others."""
    path = disk.folder(each=20) / "train"
    for index in range(10):
        shutil.copy(path / "ant" / f"{index}.png", path / "ant" / f"copy{index}.png")
    config = DataConfig(source=f"folder:{path}", batch_size=2)
    with pytest.raises(MldrError, match=r"copy.*\): keep one copy of each, or raise data"):
        load_dataset(config, progress=notes)
    groups = [
        line.removeprefix("data: the same picture: ").split(" = ")
        for line in notes.lines
        if " = " in line
    ]
    assert sorted(map(sorted, groups)) == [
        [f"ant/{index}.png", f"ant/copy{index}.png"] for index in range(10)
    ]
    for index in range(10):
        (path / "ant" / f"copy{index}.png").unlink()
    assert load_dataset(config).report.leaked == 0


def test_a_leak_from_validation_counts(disk: Any) -> None:
    path = disk.folder()
    shutil.copytree(path / "val", path / "test")
    with pytest.raises(MldrError, match="4 of 4 test pictures stand in train or validation too"):
        load(path)


def test_labels_that_contradict_each_other_are_counted(disk: Any) -> None:
    path = disk.folder()
    for index in (0, 1):
        shutil.copy(
            path / "train" / "ant" / f"{index}.png", path / "train" / "bee" / f"c{index}.png"
        )
    shutil.copy(path / "train" / "ant" / "2.png", path / "train" / "ant" / "again.png")
    data = load(path)
    assert (data.report.leaked, data.report.contradicted) == (0, 4)
    assert "4 training images stand twice, under different labels" in [*data.report.lines()]


def test_without_a_look_nothing_is_claimed(disk: Any) -> None:
    data = load(copied(disk, "png"), resident_mib=0, check_images=False)
    assert data.report.leaked is None and [*data.report.lines()] == []


def test_the_embedded_digits_leak_nothing() -> None:
    assert load_dataset(DataConfig()).report.leaked == 0


def test_the_hash_sees_size_and_every_pixel() -> None:
    pixels = np.zeros((2, 6, 3), np.uint8)
    others = [pixels.reshape(3, 4, 3), pixels.reshape(6, 2, 3), pixels.copy()]
    others[2][1, 5, 2] = 1
    hashes = {pixel_hash(part) for part in (pixels, *others)}
    assert len(hashes) == 4 and pixel_hash(pixels[:, ::-1]) in hashes
