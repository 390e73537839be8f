"""Tiny-ImageNet from the shards and from the official folder."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import load_dataset
from mldr_deploy.errors import MldrError

VAL = (0.482358, 0.449497, 0.398082), (0.276465, 0.269116, 0.282453)  # published with the shards


def write_official(root: Path, source: Path, classes: int, each: int) -> Path:
    """The official layout with the first classes and some pictures of the real data."""
    import pyarrow.parquet as pq

    folder = root / "tiny-imagenet-200"
    with (source / "tiny-imagenet-classes.csv").open(newline="") as file:
        words = {row["wnid"]: row["words"] for row in csv.DictReader(file)}
    ids = sorted(words)[:classes]
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(reversed(ids)) + "\n")
    (folder / "words.txt").write_text("".join(f"{id}\t{words[id]}\n" for id in sorted(words)))
    train = pq.read_table(source / "tiny-imagenet-train-0.parquet").slice(0, classes * 100)
    for row in train.to_pylist():
        if int(row["filename"].split("_")[1].split(".")[0]) < each:
            path = folder / "train" / row["wnid"] / "images" / row["filename"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row["image"])
    notes = []
    for row in pq.read_table(source / "tiny-imagenet-val.parquet").to_pylist():
        if row["wnid"] in ids and len(notes) < classes * 50:
            (folder / "val" / "images" / row["filename"]).write_bytes(row["image"])
            notes.append(f"{row['filename']}\t{row['wnid']}\t0\t0\t10\t10")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(notes) + "\n")
    return folder


def test_the_official_folder_gives_what_the_shards_give(
    tmp_path: Path, tiny_imagenet_root: Path
) -> None:
    import pyarrow.parquet as pq
    from PIL import Image

    write_official(tmp_path, tiny_imagenet_root, classes=3, each=4)
    config = DataConfig(source="tiny-imagenet", root=str(tmp_path), val_fraction=0, batch_size=4)
    data = load_dataset(config)
    assert data.classes == ("goldfish", "European fire salamander", "bullfrog")
    assert np.bincount(data.train.labels).tolist() == [4, 4, 4]
    assert np.bincount(data.test.labels).tolist() == [50, 50, 50]
    table = pq.read_table(tiny_imagenet_root / "tiny-imagenet-val.parquet").slice(0, 200)
    by_name = {row["filename"]: row for row in table.to_pylist()}
    assert data.test.pixels is not None
    for index in (0, 60, 149):
        row = by_name[Path(data.test.name(index)).name]
        picture = Image.open(io.BytesIO(row["image"])).convert("RGB")
        assert np.array_equal(data.test.pixels[index], np.asarray(picture))
        assert data.test.labels[index] == row["label"]


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny-imagenet-200").mkdir()
    with pytest.raises(MldrError, match=r"is not the official Tiny-ImageNet folder: .*wnids"):
        load_dataset(DataConfig(source="tiny-imagenet", root=str(tmp_path)))


def test_a_wnid_without_a_class_is_refused(tmp_path: Path, tiny_imagenet_root: Path) -> None:
    folder = write_official(tmp_path, tiny_imagenet_root, classes=3, each=4)
    notes = folder / "val" / "val_annotations.txt"
    notes.write_text(notes.read_text().replace("n01443537", "n99999999", 1))
    with pytest.raises(MldrError, match=r"label -1 of val/images/val_\d+\.JPEG is out of range"):
        load_dataset(DataConfig(source="tiny-imagenet", root=str(tmp_path), batch_size=4))


@pytest.mark.slow
def test_shards_have_the_published_figures(tiny_imagenet_root: Path) -> None:
    data = load_dataset(DataConfig(source="tiny-imagenet", root=str(tiny_imagenet_root)))
    assert [len(part) for part in (data.train, data.val, data.test)] == [36_000, 4_000, 10_000]
    assert np.bincount(data.test.labels).tolist() == [50] * 200
    assert len(set(data.classes)) == 200 and data.classes[0] == "goldfish"
    assert data.test.pixels is not None and data.test.pixels.shape[1:] == (64, 64, 3)
    for channel in range(3):
        plane = data.test.pixels[..., channel] / 255
        assert plane.mean() == pytest.approx(VAL[0][channel], abs=2e-3)  # decoders differ a little
        assert plane.std() == pytest.approx(VAL[1][channel], abs=2e-3)
