"""Loading as a whole: splits, fingerprint, statistics, and every refusal."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mldr_deploy.data.data_config import AugmentConfig, DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.data.loader import TrainBatches
from mldr_deploy.data.split import Split
from mldr_deploy.errors import MldrError


def load(source: str, **keys: Any) -> Dataset:
    return load_dataset(DataConfig(source=source, **{"batch_size": 4, **keys}))


def refusal(source: str, **keys: Any) -> str:
    with pytest.raises(MldrError) as raised:
        load(source, **keys)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_digits_are_scikit_learns_scans_enlarged() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert data.classes == tuple("0123456789")
    assert [len(part) for part in (data.train, data.val, data.test)] == [1293, 145, 359]
    assert data.train.pixels is not None and data.train.pixels.shape == (1293, 32, 32, 3)
    scans = load_digits()
    small = scans.images.reshape(len(scans.images), -1)
    seen = set()
    for part in (data.train, data.val, data.test):
        assert part.pixels is not None
        shrunk = part.pixels[..., 0].reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(len(part), -1)
        nearest = [int(np.abs(small - scan / 255 * 16).sum(1).argmin()) for scan in shrunk]
        agree = scans.target[nearest] == part.labels
        assert agree.mean() > 0.995
        seen.update(nearest)
    assert len(seen) > 1700  # the three parts are different scans


def test_the_split_seed_moves_validation_and_never_test() -> None:
    first, other = load("digits"), load("digits", split_seed=1)
    assert not np.array_equal(first.val.rows, other.val.rows)
    assert np.array_equal(first.test.rows, other.test.rows)
    assert first.fingerprint == other.fingerprint
    everything = np.sort(np.concatenate([first.train.rows, first.val.rows]))
    assert np.array_equal(everything, np.arange(1438))


def test_without_validation_all_of_train_is_kept() -> None:
    data = load("digits", val_fraction=0)
    assert (len(data.train), len(data.val)) == (1438, 0)


def test_statistics_are_those_of_the_pixels() -> None:
    data = load("digits")
    assert data.train.pixels is not None
    floats = data.train.pixels.astype(np.float64) / 255
    assert data.mean == pytest.approx(floats.mean((0, 1, 2)), abs=1e-12)
    assert data.std == pytest.approx(floats.std((0, 1, 2)), abs=1e-9)


def test_a_set_beyond_the_limit_is_streamed_with_the_same_pictures(disk: Any) -> None:
    source = f"folder:{disk.folder()}"
    resident, streamed = load(source), load(source, resident_mib=0)
    assert resident.train.pixels is not None and streamed.train.pixels is None
    assert resident.fingerprint == streamed.fingerprint
    assert np.array_equal(resident.val.labels, streamed.val.labels)
    for index in range(len(resident.train)):
        picture = np.asarray(streamed.train.image(index))
        assert np.array_equal(resident.train.pixels[index], picture)
    assert streamed.mean == pytest.approx(resident.mean, abs=1e-12)
    assert streamed.std == pytest.approx(resident.std, abs=1e-12)


def test_loading_takes_the_memory_of_the_pixels_once(disk: Any) -> None:
    """By allocated bytes, NumPy's among them: the cut for validation copies no picture."""
    source = f"folder:{disk.folder(each=40, side=64)}"
    load(source)  # imports are paid for
    tracemalloc.start()
    try:
        data = load(source, val_fraction=0.5)
        lasting, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    pixels = 84 * 64 * 64 * 3
    assert sum(map(len, (data.train, data.val, data.test))) == 84
    assert pixels <= lasting < 1.2 * pixels
    assert peak < 1.4 * pixels


def test_batches_for_training_copy_no_split_as_a_whole() -> None:
    """Beside the tensor that they keep, of which this does not tell, NumPy holds one block."""
    picture = np.random.default_rng(0).integers(0, 256, (2000, 16, 16, 3), np.uint8)
    split = Split.of_pixels(picture, np.arange(2000) % 4).subset(np.arange(1999, -1, -1))
    tracemalloc.start()
    try:
        batches = TrainBatches(
            split, DataConfig(), seed=0, device="cpu", augment=AugmentConfig(crop="none")
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < picture.nbytes / 2
    batch = next(batches.epoch(0))
    np.testing.assert_array_equal(batch.pixels.permute(0, 2, 3, 1), picture[::-1][batch.indices])


def test_pictures_of_several_sizes_are_streamed(disk: Any) -> None:
    path = disk.folder()
    disk.picture(9, 20, 31).save(path / "train" / "ant" / "wide.png")
    data = load(f"folder:{path}")
    assert data.train.pixels is None
    sizes = {data.train.image(i).size for i in range(len(data.train))}
    sizes |= {data.val.image(i).size for i in range(len(data.val))}
    assert sizes == {(16, 16), (31, 20)}


def test_streamed_statistics_weigh_every_picture_alike(disk: Any) -> None:
    path = disk.folder()
    Image.new("RGB", (200, 100), (255, 0, 51)).save(path / "train" / "ant" / "large.png")
    data = load(f"folder:{path}", val_fraction=0)
    pictures = [np.asarray(data.train.image(i)) / 255 for i in range(len(data.train))]
    assert data.mean == pytest.approx(np.mean([p.mean((0, 1)) for p in pictures], axis=0))
    squares = np.mean([(p**2).mean((0, 1)) for p in pictures], axis=0)
    assert data.std == pytest.approx(np.sqrt(squares - np.square(data.mean)))


def test_the_fingerprint_tells_content_names_and_labels_apart(disk: Any) -> None:
    rows, labels = disk.rows(12), [0, 1] * 6
    disk.table("test.parquet", {"image": disk.rows(2, seed=50), "label": [0, 1]})
    prints = []
    for images, marks in (
        (rows, labels),
        (rows, labels),
        (rows[::-1], labels),
        (rows, labels[::-1]),
        ([disk.rows(1, seed=99)[0], *rows[1:]], labels),
    ):
        disk.table("train.parquet", {"image": images, "label": marks})
        prints.append(load(f"parquet:{disk.root}").fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_the_fingerprint_sees_class_names_and_not_shards(disk: Any) -> None:
    whole = {"image": disk.rows(12), "label": ["a", "b"] * 6}
    one = load(f"parquet:{disk.table('t.parquet', whole)}").fingerprint
    for part in (0, 1):
        half = {key: column[6 * part : 6 * part + 6] for key, column in whole.items()}
        disk.table(f"shards/{part}.parquet", half)
    assert load(f"parquet:{disk.root / 'shards'}").fingerprint == one
    renamed = whole | {"label": ["a", "c"] * 6}
    assert load(f"parquet:{disk.table('t.parquet', renamed)}").fingerprint != one


def test_a_missing_path_is_refused(disk: Any) -> None:
    missing = disk.root / "nowhere"
    assert refusal(f"folder:{missing}") == f"data.source names {missing}, which is not a folder"
    assert refusal(f"parquet:{missing}") == f"data.source names {missing}, which does not exist"
    assert refusal("cifar100", root=str(missing)) == (
        f"data.root names {missing}, which is not a folder"
    )


def test_no_class_and_one_class_are_refused(disk: Any) -> None:
    for split in ("train", "val"):
        (disk.root / split).mkdir()
    assert f"no classes in {disk.root}" in refusal(f"folder:{disk.root}")
    for split in ("train", "val"):
        (disk.root / split / "ant").mkdir()
        disk.picture(0).save(disk.root / split / "ant" / "0.png")
    message = refusal(f"folder:{disk.root}")
    assert f"only one class, 'ant' in {disk.root}" in message and "at least two" in message


def test_classes_that_differ_between_splits_are_refused(disk: Any) -> None:
    path = disk.folder(("ant", "bee", "cat"))
    shutil.rmtree(path / "val" / "cat")
    message = refusal(f"folder:{path}")
    assert "class 'cat' has pictures in train but none in test" in message
    assert str(path) in message and "(1 differ)" in message
    shutil.move(path / "train" / "cat", path / "val" / "cat")
    assert "class 'cat' has no picture in the train split" in refusal(f"folder:{path}")


def test_a_class_of_one_picture_cannot_be_cut(disk: Any) -> None:
    path = disk.folder(("ant", "bee", "cat", "dog")) / "train"
    for name in ("bee", "dog"):
        for index in range(1, 6):
            (path / name / f"{index}.png").unlink()
    assert refusal(f"folder:{path}") == (
        f"class 'bee' has one picture ({path}): at least two are needed to hold one out for the "
        "test split; add pictures or remove the class (2 such)"
    )
    for seed, name in enumerate(("bee", "dog")):
        disk.picture(9000 + seed).save(path / name / "1.png")
    assert len(load(f"folder:{path}").test) == 4


def test_unreadable_pictures_are_named_and_counted(disk: Any) -> None:
    path = disk.folder(each=8)
    whole = (path / "train" / "ant" / "1.png").read_bytes()
    (path / "train" / "ant" / "1.png").write_bytes(whole[: len(whole) // 2])
    damaged = path / "val" / "bee" / "0.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for limit in (2048, 0):  # found while loading, and while checking a streamed set
        message = refusal(f"folder:{path}", resident_mib=limit)
        assert "train/ant/1.png (" in message
        assert "val/bee/0.png (" in message
        assert message.endswith("(2 of 20 images are unreadable)")
    for index in range(8):
        shutil.copy(damaged, path / "train" / "bee" / f"{index}.png")
    message = refusal(f"folder:{path}")
    assert message.count(".png") == 3 and "; ..." in message and "(10 of 20 images" in message


@pytest.mark.parametrize("resident_mib", [2048, 0])
def test_every_unreadable_picture_is_noted_with_its_reason(
    resident_mib: int, disk: Any, notes: Any
) -> None:
    path = disk.folder(each=8)
    for index in range(5):
        file = path / "train" / "bee" / f"{index}.png"
        file.write_bytes(file.read_bytes()[:200])
    config = DataConfig(source=f"folder:{path}", resident_mib=resident_mib, skip_share=1)
    with pytest.raises(MldrError, match=r"\(5 of 20 images are unreadable\)"):
        load_dataset(config, progress=notes)
    assert notes.lines == [
        f"data: unreadable: train: train/bee/{index}.png (a damaged PNG file (image file is "
        "truncated))"
        for index in range(5)
    ]


def test_a_picture_too_thin_for_the_network_is_named(disk: Any) -> None:
    path = disk.folder(each=8)
    Image.new("RGB", (1, 100_000)).save(path / "train" / "ant" / "1.png")
    words = "train/ant/1.png (1 x 100000 pixels would become 32 x 3200000 before the crop: crop it"
    for limit in (2048, 0):
        assert words in refusal(f"folder:{path}", resident_mib=limit)
    assert len(load(f"folder:{path}", image_size=16).train) > 0  # 25.6 million pixels at this size


def test_the_check_of_streamed_pictures_can_be_left_out(disk: Any) -> None:
    path = disk.folder()
    whole = (path / "train" / "ant" / "1.png").read_bytes()
    (path / "train" / "ant" / "1.png").write_bytes(whole[: len(whole) // 2])
    data = load(f"folder:{path}", resident_mib=0, check_images=False)
    assert len(data.train) == 10


def test_unreadable_rows_are_named(disk: Any) -> None:
    rows = disk.rows(20)
    rows[3], rows[17] = rows[3][:100], rows[17][:90]
    path = disk.table("t.parquet", {"image": rows, "label": [0, 1] * 10})
    message = refusal(f"parquet:{path}")
    assert "row 3 of t.parquet (" in message and "row 17 of t.parquet (" in message
    assert message.endswith("(2 of 20 images are unreadable)")


def test_labels_out_of_range_are_refused(disk: Any) -> None:
    rows = disk.rows(8)
    path = disk.table("t.parquet", {"image": rows, "label": [0, 1, 0, -1, 1, 0, 1, -1]})
    message = refusal(f"parquet:{path}")
    assert "label -1 of row 3 of t.parquet is out of range: 2 classes allow 0 to 1" in message
    path = disk.table("t.parquet", {"image": rows, "label": [0, 1, 0, 999, 1, 0, 1, 0]})
    assert "label 999 in" in refusal(f"parquet:{path}")
    features = '{"info": {"features": {"label": {"names": ["a", "b"]}}}}'
    path = disk.table("t.parquet", {"image": rows, "label": [0, 1, 2, 1] * 2}, features)
    message = refusal(f"parquet:{path}")
    assert "label 2 of row " in message and "is out of range: 2 classes allow 0 to 1" in message


def test_progress_is_told(disk: Any) -> None:
    class Ticks:
        def __init__(self) -> None:
            self.told: list[tuple[str, Any]] = []

        def start(self, name: str, total: int | None) -> None:
            self.told.append((name, total))

        def advance(self, n: int = 1, **info: float | str) -> None:
            self.told.append(("advance", n))

        def finish(self) -> None:
            self.told.append(("finish", None))

        def note(self, text: str) -> None: ...

    ticks = Ticks()
    config = DataConfig(source=f"folder:{disk.folder()}", batch_size=4)
    load_dataset(config, progress=ticks)
    assert ticks.told[0] == ("decoding images", 16) and ticks.told[-1] == ("finish", None)
    assert sum(n for name, n in ticks.told if name == "advance") == 16


def test_data_root_prefers_the_key_then_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mldr_deploy.data.root import cache_folder, data_root

    monkeypatch.setenv("MLDR_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root(None) == tmp_path
    assert data_root(os.curdir) == Path(os.curdir)
    assert cache_folder() == tmp_path / "cache" / "mldr-deploy" / "data"
    monkeypatch.setenv("MLDR_DATA", str(tmp_path / "gone"))
    with pytest.raises(MldrError, match=r"^\$MLDR_DATA names .*gone, which is not a folder$"):
        data_root(None)


def test_what_is_left_out_is_told_before_anything_is_decoded(disk: Any) -> None:
    class Lines:
        def __init__(self) -> None:
            self.told: list[str] = []

        def start(self, name: str, total: int | None) -> None:
            self.told.append(name)

        def advance(self, n: int = 1, **info: float | str) -> None: ...

        def finish(self) -> None: ...

        def note(self, text: str) -> None:
            self.told.append(text)

    path = disk.folder(each=8)
    (path / "train" / "bee" / "page.jpg").write_text("<html>")
    shutil.copy(path / "train" / "bee" / "3.png", path / "train" / "ant" / "bee.png")
    lines = Lines()
    config = DataConfig(source=f"folder:{path}", batch_size=4, skip_share=0.2)
    load_dataset(config, progress=lines)
    left_out, decoding, twice = lines.told
    assert left_out == (
        "data: left out: files that are called like pictures and are none, 1 in all: train/bee 1; "
        "first train/bee/page.jpg"
    )
    assert decoding == "decoding images"
    assert twice == "data: 2 training images stand twice, under different labels"
