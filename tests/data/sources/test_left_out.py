"""Folders as people really have them: nothing of a system's is taken, nothing of theirs is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.data import walk as walking
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.errors import MldrError


def load(path: Path, **keys: Any) -> Dataset:
    options = {"batch_size": 2, "val_fraction": 0, **keys}
    return load_dataset(DataConfig(source=f"folder:{path}", **options))


def refusal(path: Path, **keys: Any) -> str:
    with pytest.raises(MldrError) as raised:
        load(path, **keys)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def said(data: Dataset) -> str:
    return "; ".join(data.report.lines())


DEBRIS = [
    ".ipynb_checkpoints/0-checkpoint.png",
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.png",
    ".Trash-1000/files/gone.png",
    ".AppleDouble/0.png",
    "__MACOSX/._0.png",
    "LOST+FOUND/0.png",
    "$Recycle.Bin/S-1-5-21-7/0.png",
    "#recycle/0.png",
    ".thumbnails/large/0.png",
    ".picasaoriginals/0.png",
    ".git/annex/objects/0.png",
    "S-1-5-21-7/Dc1.png",
    "0.png~",
    "0.png_original",
]


@pytest.mark.parametrize("place", ["train/ant", "train/ant/deep/er", "train", ""])
@pytest.mark.parametrize("name", DEBRIS)
def test_what_systems_leave_is_not_taken(name: str, place: str, disk: Any) -> None:
    path = disk.folder()
    debris = path / place / name
    debris.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path / "train" / "bee" / "0.png", debris)  # a bee among the ants
    data = load(path)
    assert data.classes == ("ant", "bee") and len(data.train) == 12 and len(data.test) == 4


def test_a_resource_fork_with_a_picture_s_name_is_not_taken(disk: Any) -> None:
    path = disk.folder()
    (path / "train" / "ant" / "fork.png").write_bytes(b"\0\5\x16\7\0\2" + bytes(60))
    assert len(load(path).train) == 12


def test_hidden_pictures_and_folders_are_told(disk: Any) -> None:
    path = disk.folder()
    (path / "train" / ".cats").mkdir()
    shutil.copy(path / "train" / "ant" / "0.png", path / "train" / "ant" / ".0.png")
    words = said(load(path))
    assert "hidden pictures, 1 in all: train/ant 1; first train/ant/.0.png" in words
    folders = "hidden or system folders, not looked into"
    assert f"{folders}, 1 in all: train 1; first train/.cats" in words


@pytest.mark.parametrize("name", ["thumbs", "recycle", "CVS", "lost"])
def test_classes_may_be_called_like_that(name: str, disk: Any) -> None:
    assert load(disk.folder((name, "ant"))).classes == tuple(sorted((name, "ant")))


def test_an_empty_class_is_refused_by_name(disk: Any) -> None:
    path = disk.folder()
    (path / "train" / "CVS").mkdir()
    (path / "train" / "CVS" / "Entries").write_text("D")
    message = refusal(path)
    assert "class 'CVS' has no picture in the train split" in message
    assert "if it is no class, take it away" in message


def test_linked_folders_are_followed_and_loops_are_not(disk: Any) -> None:
    path = disk.folder()
    more = disk.root / "elsewhere" / "more"
    more.mkdir(parents=True)
    for index in range(3):
        disk.picture(7000 + index).save(more / f"{index}.png")
    (path / "train" / "ant" / "batch2").symlink_to(more)
    (path / "train" / "ant" / "alias").symlink_to(more)  # the same again: counts once
    (more / "up").symlink_to(path / "train")
    (path / "train" / "ant" / "self").symlink_to(path / "train" / "ant")
    shutil.move(disk.root / "elsewhere", disk.root.parent / f"{disk.root.name}-more")
    moved = disk.root.parent / f"{disk.root.name}-more" / "more"
    for name in ("batch2", "alias"):
        (path / "train" / "ant" / name).unlink()
        (path / "train" / "ant" / name).symlink_to(moved)
    data = load(path)
    assert np.bincount(data.train.labels).tolist() == [9, 6]
    assert (
        "links to a folder that is looked into elsewhere, or that holds the link, 3 in all"
        in said(data)
    )


def test_a_whole_class_may_be_a_link(disk: Any) -> None:
    path = disk.folder()
    away = disk.root.parent / f"{disk.root.name}-bee"
    shutil.move(path / "train" / "bee", away)
    (path / "train" / "bee").symlink_to(away)
    data = load(path)
    assert np.bincount(data.train.labels).tolist() == [6, 6]
    assert data.train.name(6) == "train/bee/0.png"


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".HEIC", ".txt", ""])
def test_the_content_makes_a_picture(suffix: str, disk: Any) -> None:
    path = disk.folder()
    for file in (path / "train" / "ant").iterdir():
        file.rename(file.with_suffix(suffix))
    assert np.bincount(load(path).train.labels).tolist() == [6, 6]


SIDECARS = {
    "README.txt": b"about",
    "a.json": b"{}",
    "0.xml": b"<annotation>",
    "IMG_1.MOV": b"\0\0\0\x14ftypqt  ",
    "IMG_1.aae": b"<?xml",
    "list.csv": b"a,b",
}


def test_what_lies_beside_pictures_is_told_and_no_loss(disk: Any) -> None:
    path = disk.folder()
    for name, content in SIDECARS.items():
        (path / "train" / "ant" / name).write_bytes(content)
    os.mkfifo(path / "train" / "ant" / "pipe")
    data = load(path)
    assert len(data.train) == 12
    words = said(data)
    assert "files that are no pictures, 6 in all: train/ant 6; first train/ant/0.xml" in words
    assert "neither files nor folders, 1 in all: train/ant 1" in words


LOSSES = {
    "page.jpg": (b"<!DOCTYPE html>", "called like pictures and are none"),
    "empty.png": (b"", "empty files"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ".a.jpg.icloud": (b"bplist00", "placeholders"),
    "a.NEF": (b"MM\0*" + bytes(60), "camera raw"),
    "a.jxl": (b"\xff\x0a" + bytes(60), "JPEG XL"),
    "part.jpg.crdownload": (b"\xff\xd8\xff\xe0" + bytes(60), "placeholders"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_lost_picture_is_refused_or_told_by_class(name: str, disk: Any) -> None:
    path = disk.folder()
    content, reason = LOSSES[name]
    (path / "train" / "bee" / name).write_bytes(content)
    message = refusal(path)
    assert message.startswith("1 of 7 pictures of class 'bee' in train cannot be used (")
    assert reason in message and f"first train/bee/{name}" in message
    assert "data.skip_share (0.01)" in message
    data = load(path, skip_share=0.15)  # 1 of 7
    assert len(data.train) == 12 and f"train/bee 1; first train/bee/{name}" in said(data)


def test_dangling_links_are_a_loss(disk: Any) -> None:
    path = disk.folder(each=16)
    for index in range(8):
        file = path / "train" / "ant" / f"{index}.png"
        file.unlink()
        file.symlink_to(f"/annex/not/fetched/{index}.png")
    assert refusal(path).startswith(
        "8 of 16 pictures of class 'ant' in train cannot be used (links to nothing: 8, first "
        "train/ant/0.png)"
    )
    (path / "val" / "bee" / "batch2").symlink_to("/annex/not/fetched/batch2")
    assert "an unknown part of class 'bee' in val cannot be used" in refusal(path, skip_share=0.6)


def test_a_class_that_links_to_nothing_is_a_loss(disk: Any) -> None:
    path = disk.folder()
    for split in ("train", "val"):
        (path / split / "cow").symlink_to("/nowhere/cow")
    assert "an unknown part of no class in train cannot be used (links to nothing: 1, first " in (
        refusal(path)
    )


def test_what_may_not_be_read_is_a_loss(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, whom no permission stops."""
    path = disk.folder()
    (path / "train" / "ant" / "batch2").mkdir()
    scandir, opened = os.scandir, os.open

    def guarded_scandir(place: Any) -> Any:
        if Path(place).name == "batch2":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(walking.os, "scandir", guarded_scandir)
    message = refusal(path)
    assert "an unknown part of class 'ant' in train cannot be used" in message
    assert "folders that cannot be listed (Permission denied): 1, first train/ant/batch2" in message
    monkeypatch.setattr(walking.os, "scandir", scandir)

    def guarded_open(place: Any, *flags: Any, **more: Any) -> int:
        if str(place).endswith("bee/0.png"):
            raise PermissionError(13, "Permission denied", str(place))
        return opened(place, *flags, **more)

    monkeypatch.setattr(walking.os, "open", guarded_open)
    message = refusal(path)
    assert "1 of 6 pictures of class 'bee' in train cannot be used" in message
    assert "files that cannot be read (Permission denied): 1, first train/bee/0.png" in message


def test_a_raw_file_beside_its_own_picture_is_no_loss(disk: Any) -> None:
    path = disk.folder()
    (path / "train" / "ant" / "0.NEF").write_bytes(b"MM\0*" + bytes(60))
    (path / "train" / "ant" / "1.png.dvc").write_text("outs:")
    data = load(path)
    assert len(
        data.train
    ) == 12 and "camera raw files (develop them to JPEG or PNG), 1 in all" in said(data)


def test_pictures_outside_class_folders_are_a_loss(disk: Any) -> None:
    path = disk.folder()
    shutil.copy(path / "train" / "ant" / "0.png", path / "train" / "stray.png")
    message = refusal(path)
    assert "1 of 17 pictures of no class in train cannot be used" in message
    assert "pictures that lie in no class folder: 1, first train/stray.png" in message


def test_what_lies_beside_the_splits_is_told(disk: Any) -> None:
    path = disk.folder()
    (path / "README.md").write_text("about")
    (path / ".cats").mkdir()
    words = said(load(path))
    assert "files that are no pictures, 1 in all: train 1; first README.md" in words
    assert "hidden or system folders, not looked into, 1 in all: train 1; first .cats" in words
    shutil.copy(path / "train" / "ant" / "0.png", path / "loose.png")
    assert "1 of 17 pictures of no class in train cannot be used (pictures that lie in no" in (
        refusal(path)
    )
    (path / "loose.png").unlink()
    (path / "more").mkdir()
    (path / "more" / "a.jpg").symlink_to("/nowhere/a.jpg")
    assert "(links to nothing: 1, first more/a.jpg)" in refusal(path)


@pytest.mark.parametrize("name", ["val", "valid.zip", "test.tar.gz", "dev"])
@pytest.mark.parametrize("layout", ["train/ alone", "classes alone"])
def test_a_split_that_is_not_there_as_a_folder_is_a_loss(layout: str, name: str, disk: Any) -> None:
    path = disk.folder(each=8)
    shutil.rmtree(path / "val")
    path = path if layout == "train/ alone" else path / "train"
    missing = path / name
    if "." in name:
        missing.write_bytes(b"PK\3\4")
    else:
        missing.symlink_to("/not/mounted/val")
    reason = "files called like a split" if "." in name else "links to nothing"
    message = refusal(path, skip_share=0.9)
    assert message.startswith(f"an unknown part of no class in train cannot be used ({reason}")
    assert f": 1, first {name})" in message
    assert len(load(path, skip_share=1).test) == 4


def test_an_archive_beside_what_it_held_is_no_loss(disk: Any) -> None:
    path = disk.folder()
    for name in ("train.zip", "val.zip"):
        (path / name).write_bytes(b"PK\3\4")
    assert "files that are no pictures, 2 in all: train 2; first train.zip" in said(load(path))
    shutil.rmtree(path / "train")
    assert f"{path} has no train/ folder (train.zip is none): train/ and" in refusal(path)


def test_every_lost_picture_is_noted_before_the_refusal(
    disk: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = disk.folder()
    for label in ("ant", "bee"):
        (path / "train" / label / "page.jpg").write_bytes(b"<html>")
    (path / "val" / "bee" / "empty.png").write_bytes(b"")  # the only one: the refusal names it
    config = DataConfig(source=f"folder:{path}", batch_size=2)
    with pytest.raises(MldrError):
        load_dataset(config, progress=notes)
    reason = "files that are called like pictures and are none"
    named = [f"data: {reason}: train/{label}/page.jpg" for label in ("ant", "bee")]
    assert [line for line in notes.lines if "left out" not in line] == named
    notes.lines.clear()
    monkeypatch.setattr("mldr_deploy.data.omissions._LISTED", 1)
    with pytest.raises(MldrError):
        load_dataset(config, progress=notes)
    assert all("left out" in line for line in notes.lines)


def test_the_share_of_all_counts_too(disk: Any) -> None:
    path = disk.folder(("ant", "bee"), each=60)
    for name in ("ant", "bee"):
        (path / "train" / name / "page.jpg").write_bytes(b"<html>")
    assert len(load(path, skip_share=0.017).train) == 120  # 1 of 61 = 0.0164
    assert "1 of 61 pictures of class 'ant'" in refusal(path, skip_share=0.016)


def test_a_name_that_is_no_utf_8_does_not_break_anything(disk: Any) -> None:
    path = disk.folder()
    odd = os.fsencode(path / "train" / "ant") + b"/caf\xe9"
    shutil.copy(path / "train" / "ant" / "0.png", odd + b".png")
    Path(os.fsdecode(odd + b".txt")).write_bytes(b"notes")
    data = load(path)
    assert len(data.train) == 13 and len(data.fingerprint) == 64
    said(data).encode()
    (path / "train" / os.fsdecode(b"caf\xe9")).mkdir()
    assert "has a name that is not UTF-8" in refusal(path)


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("TRAIN", "valid"), ("train_images", "dev"), ("train", "Test Set")],
)
def test_split_folders_by_their_usual_names(train: str, test: str, disk: Any) -> None:
    path = disk.folder()
    (path / "train").rename(path / f"{train}.new")
    (path / f"{train}.new").rename(path / train)
    (path / "val").rename(path / test)
    data = load(path)
    assert (len(data.train), len(data.test), data.report.test_cut) == (12, 4, None)


def test_two_folders_of_one_split_are_refused(disk: Any) -> None:
    path = disk.folder()
    shutil.copytree(path / "val", path / "valid")
    assert f"{path} holds val/ and valid/, which both mean val: keep one" in refusal(path)


def test_a_folder_that_says_nothing_beside_splits_is_refused(disk: Any) -> None:
    path = disk.folder()
    (path / "extra").mkdir()
    (path / "extra" / "readme.md").write_text("nothing")
    assert len(load(path).train) == 12  # no picture in it
    shutil.copy(path / "train" / "ant" / "0.png", path / "extra")
    assert f"{path / 'extra'} holds pictures but does not say its split" in refusal(path)


def test_without_a_test_split_one_is_cut_and_told(disk: Any) -> None:
    path = disk.folder(each=10)
    shutil.rmtree(path / "val")
    data = load(path)
    assert np.bincount(data.train.labels).tolist() == [8, 8]
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    assert said(data) == (
        "the data have no test split: 20 % of every class was cut from train (4 images)"
    )
    again = load(path, split_seed=5)
    assert np.array_equal(again.test.rows, data.test.rows)
    assert again.fingerprint == data.fingerprint
    half = load(path, test_fraction=0.5)
    assert len(half.test) == 10 and half.fingerprint != data.fingerprint
    direct = load(path / "train")
    assert direct.classes == ("ant", "bee") and len(direct.test) == 4


@pytest.mark.parametrize("names", [("seg_train", "seg_test"), ("my_training", "my_valid")])
def test_class_folders_that_look_like_splits_are_refused(names: tuple[str, str], disk: Any) -> None:
    path = disk.folder(names) / "train"
    message = refusal(path)
    assert f"{names[0]} and {names[1]}" in message or f"{names[1]} and {names[0]}" in message
    assert "look like splits" in message


def test_splits_inside_classes_are_refused(disk: Any) -> None:
    path = disk.folder(("train", "test")) / "train"  # as if .../ant/train, .../ant/test
    away = disk.root / "flat"
    for name in ("ant", "bee"):
        shutil.copytree(path, away / name)
    assert f"{away / 'ant'} holds test and train: splits lie above the classes" in refusal(away)


def test_a_class_is_the_same_in_both_forms_of_unicode(disk: Any) -> None:
    path = disk.folder(("caf\u00e9", "cafz"))
    decomposed = "cafe\u0301"
    (path / "val" / "caf\u00e9").rename(path / "val" / decomposed)
    (path / "train" / decomposed).mkdir()
    disk.picture(9000).save(path / "train" / decomposed / "more.png")
    data = load(path)
    assert data.classes == ("cafz", "caf\u00e9")  # NFD would come first
    assert np.bincount(data.train.labels).tolist() == [6, 7]
