"""CIFAR-100 from the shards and from the official archive's layout."""

from __future__ import annotations

import io
import pickle
import pickletools
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.data.fetch import Archive, fetch
from mldr_deploy.data.sources import cifar100
from mldr_deploy.errors import MldrError, Unavailable

# Of the shards as published with them: mean and population std of pixels / 255.
TRAIN = (0.507075, 0.486549, 0.440918), (0.267334, 0.256438, 0.276150)
TEST = (0.508796, 0.487393, 0.441942), (0.268252, 0.257364, 0.277096)


@pytest.fixture(scope="module")
def shards(cifar100_root: Path) -> Dataset:
    config = DataConfig(source="cifar100", root=str(cifar100_root), val_fraction=0)
    return load_dataset(config)


def test_shards_have_the_published_figures(shards: Dataset) -> None:
    assert [len(part) for part in (shards.train, shards.val, shards.test)] == [50_000, 0, 10_000]
    assert np.bincount(shards.train.labels).tolist() == [500] * 100
    assert np.bincount(shards.test.labels).tolist() == [100] * 100
    assert shards.mean == pytest.approx(TRAIN[0], abs=1e-6)
    assert shards.std == pytest.approx(TRAIN[1], abs=1e-6)
    assert shards.test.pixels is not None
    for channel in range(3):
        plane = shards.test.pixels[..., channel] / 255
        assert plane.mean() == pytest.approx(TEST[0][channel], abs=1e-6)
        assert plane.std() == pytest.approx(TEST[1][channel], abs=1e-6)


def test_classes_are_the_official_names_in_order(shards: Dataset) -> None:
    assert shards.classes == tuple(sorted(shards.classes)) and len(set(shards.classes)) == 100
    assert (shards.classes[0], shards.classes[53], shards.classes[99]) == (
        "apple",
        "orange",
        "worm",
    )


def test_pixels_are_those_pillow_reads_from_the_shard(shards: Dataset, cifar100_root: Path) -> None:
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(cifar100_root / "cifar100-test.parquet")
    assert shards.test.pixels is not None
    for row in (0, 4_567, 9_999):
        picture = Image.open(io.BytesIO(table["image"][row].as_py())).convert("RGB")
        assert np.array_equal(shards.test.pixels[row], np.asarray(picture))
        assert shards.test.labels[row] == table["fine_label"][row].as_py()
        assert shards.test.name(row) == f"row {row} of cifar100-test.parquet"


class Python2Pickler(pickle._Pickler):
    """Writes ``str`` and ``bytes`` as Python 2 did its strings, as the official files have them."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def write_archive(folder: Path, shards: Dataset, each: int) -> Path:
    """The official layout with every ``each``-th picture of the real data."""
    folder.mkdir(parents=True)
    contents: dict[str, dict[str, Any]] = {"meta": {"fine_label_names": list(shards.classes)}}
    for name, part in (("train", shards.train), ("test", shards.test)):
        assert part.pixels is not None
        planes = part.pixels[::each].transpose(0, 3, 1, 2).reshape(-1, 3072)
        labels = part.labels[::each].tolist()
        contents[name] = {"data": planes, "fine_labels": labels, "batch_label": "x"}
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            Python2Pickler(file, protocol=2).dump(content)
    return folder


@pytest.fixture(scope="module")
def archive(shards: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    write_archive(root / "cifar-100-python", shards, 20)
    return root


def test_the_archive_gives_what_the_shards_give(shards: Dataset, archive: Path) -> None:
    data = load_dataset(DataConfig(source="cifar100", root=str(archive), val_fraction=0))
    assert data.classes == shards.classes
    for ours, theirs in ((data.train, shards.train), (data.test, shards.test)):
        assert ours.pixels is not None and theirs.pixels is not None
        assert np.array_equal(ours.pixels, theirs.pixels[::20])
        assert np.array_equal(ours.labels, theirs.labels[::20])


def test_the_archive_is_read_as_torchvision_reads_it(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR100, cifar

    monkeypatch.setattr(CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    theirs = CIFAR100(archive, train=True)
    ours = load_dataset(DataConfig(source="cifar100", root=str(archive), val_fraction=0))
    assert ours.train.pixels is not None
    assert np.array_equal(ours.train.pixels, theirs.data)
    assert ours.train.labels.tolist() == theirs.targets
    assert list(ours.classes) == theirs.classes


def test_the_files_of_these_tests_are_written_as_python_2_did(archive: Path) -> None:
    names = {
        opcode.name
        for opcode, *_ in pickletools.genops((archive / "cifar-100-python" / "meta").read_bytes())
    }
    assert "BINSTRING" in names and not names & {"BINUNICODE", "BINBYTES"}


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, ("owned",)


def test_an_archive_that_is_a_program_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": Command()}, protocol=2))
    with pytest.raises(MldrError, match=r"cannot read .*meta: it asks for posix\.mkdir"):
        load_dataset(DataConfig(source="cifar100", root=str(tmp_path)))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot read"),
        (b"\x80\x02garbage", "cannot read"),
        (pickle.dumps([1], protocol=2), "holds no dictionary"),
        (pickle.dumps({"fine_labels": [0]}, protocol=2), "is not a CIFAR-100 file: 'data'"),
        (pickle.dumps({"data": [1, 2], "fine_labels": [0]}, protocol=2), "not a CIFAR-100 file"),
        (pickle.dumps({"data": [[0] * 3072], "fine_labels": []}, protocol=2), "but 0 labels"),
    ],
)
def test_a_damaged_archive_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    meta = pickle.dumps({"fine_label_names": ["a", "b"]}, protocol=2)
    (folder / "meta").write_bytes(meta)
    (folder / "train").write_bytes(content)
    with pytest.raises(MldrError, match=said) as raised:
        load_dataset(DataConfig(source="cifar100", root=str(tmp_path)))
    assert str(folder / "train") in str(raised.value)


def packed(folder: Path, target: Path) -> Archive:
    import hashlib

    with tarfile.open(target, "w:gz") as file:
        file.add(folder, arcname=folder.name)
    md5 = hashlib.md5(target.read_bytes()).hexdigest()
    return Archive("CIFAR-100", folder.name, target.as_uri(), md5)


def test_a_missing_set_is_fetched_once_and_whole(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = packed(archive / "cifar-100-python", tmp_path / "cifar-100-python.tar.gz")
    monkeypatch.setattr(cifar100, "ARCHIVE", official)
    root = tmp_path / "root"
    root.mkdir()
    config = DataConfig(source="cifar100", root=str(root))
    first = load_dataset(config)
    (tmp_path / "cifar-100-python.tar.gz").unlink()
    assert load_dataset(config).fingerprint == first.fingerprint
    assert sorted(path.name for path in root.iterdir()) == ["cifar-100-python"]
    assert sorted(path.name for path in (root / "cifar-100-python").iterdir()) == [
        "meta",
        "test",
        "train",
    ]


def test_a_changed_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    official = packed(archive / "cifar-100-python", tmp_path / "c.tar.gz")
    wrong = Archive(official.title, official.folder, official.url, "0" * 32)
    with pytest.raises(MldrError, match=f"its MD5 is {official.md5}, not {'0' * 32}"):
        fetch(wrong, tmp_path / "home", Silent())
    assert not (tmp_path / "home").exists()


def test_where_it_cannot_be_had_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        Unavailable, match=r"is not in .* and data\.download is off: put its folder"
    ):
        load_dataset(DataConfig(source="cifar100", root=str(tmp_path), download=False))
    nowhere = (tmp_path / "none.tar.gz").as_uri()
    monkeypatch.setattr(cifar100, "ARCHIVE", Archive("CIFAR-100", "cifar-100-python", nowhere, ""))
    with pytest.raises(Unavailable, match=r"could not be fetched .*: put its folder") as raised:
        load_dataset(DataConfig(source="cifar100", root=str(tmp_path)))
    assert raised.value.exit_code == 2 and "\n" not in str(raised.value)


def test_shards_without_their_table_of_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar100-train-0.parquet").write_bytes(b"")
    with pytest.raises(MldrError, match=r"cannot read the class names in .*classes\.csv"):
        load_dataset(DataConfig(source="cifar100", root=str(tmp_path)))
    (tmp_path / "cifar100-classes.csv").write_text("label\n0\n")
    with pytest.raises(MldrError, match="has no column fine_name"):
        load_dataset(DataConfig(source="cifar100", root=str(tmp_path)))
    (tmp_path / "cifar100-classes.csv").write_text("fine_name\napple\n")
    with pytest.raises(MldrError, match=r"cannot read .*cifar100-train-0\.parquet"):
        load_dataset(DataConfig(source="cifar100", root=str(tmp_path)))
