"""Uploads of many images, and the ways in which an archive may be hostile."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mldr_deploy.demo.archive import Picture, pictures
from mldr_deploy.demo.demo_config import DemoConfig
from mldr_deploy.serve.request_refusal import RequestRefusal

Pack = Callable[[dict[str, bytes]], Path]
IMAGE = b"\x89PNG\r\n\x1a\n and whatever follows"


def found(path: Path, **config: float) -> list[Picture]:
    return [*pictures([(path.name, path)], DemoConfig(**config))]


def test_a_folder_s_name_is_the_label(packed: Pack) -> None:
    files = {"photos/7/a.png": IMAGE, "photos/notes.txt": b"x", "__MACOSX/7/._a.png": b"x"}
    assert found(packed(files)) == [Picture("photos/7/a.png", IMAGE)]
    assert found(packed(files))[0].folder == "7"


def test_a_bomb_is_stopped_by_what_comes_out_not_by_what_it_says(packed: Pack) -> None:
    path = packed({"7/a.png": IMAGE + bytes(40 << 20)})
    data = path.read_bytes()
    size = ((40 << 20) + len(IMAGE)).to_bytes(4, "little")
    assert len(data) < 100_000 and data.count(size) == 2
    path.write_bytes(data.replace(size, (1000).to_bytes(4, "little")))  # it lies about its size
    (only,) = [*_or_refused(path, max_upload_mib=1)]
    assert "damaged" in only or "unpacks to more than 1 MiB" in only


def test_a_member_beyond_the_limit_is_told_and_the_others_are_read(packed: Pack) -> None:
    path = packed({"7/big.png": IMAGE + bytes(3 << 20), "7/small.png": IMAGE})
    big, small = found(path, max_upload_mib=1)
    assert big.problem == "unpacks to more than 1 MiB" and small.data == IMAGE


def test_all_members_together_are_limited(packed: Pack) -> None:
    path = packed({f"7/{k}.png": IMAGE + bytes(1 << 20) for k in range(8)})
    with pytest.raises(
        RequestRefusal, match=r"the archive unpacks to more than 4 MiB: upload it in parts"
    ):
        found(path, max_unpacked_mib=4)


def _or_refused(path: Path, **config: float) -> list[str]:
    try:
        return [picture.problem or "read" for picture in found(path, **config)]
    except RequestRefusal as refusal:
        return [str(refusal)]


@pytest.mark.parametrize(
    "name", ["../../etc/x.png", "/etc/x.png", "a/../../x.png", "C:\\x.png", "..\\x.png"]
)
def test_a_path_that_leads_outside_is_not_read_and_nothing_is_written(
    packed: Pack, name: str, tmp_path: Path
) -> None:
    path = packed({name: IMAGE, "7/good.png": IMAGE})
    before = {*tmp_path.parent.iterdir(), *tmp_path.rglob("*")}
    bad, good = found(path)
    assert bad.problem == "its path leads out of the archive: not read" and not bad.data
    assert good.data == IMAGE
    assert {*tmp_path.parent.iterdir(), *tmp_path.rglob("*")} == before


def test_an_empty_archive_and_one_without_images_say_what_is_taken(packed: Pack) -> None:
    for files in ({}, {"readme.txt": b"x"}):
        with pytest.raises(RequestRefusal, match=r"no image in the upload \(taken are JPEG, PNG"):
            found(packed(files))


def test_a_damaged_archive_is_a_reason(tmp_path: Path, packed: Pack) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(RequestRefusal, match="the zip archive is damaged"):
        found(path)
    whole = packed({"7/a.png": IMAGE + np.random.default_rng(0).bytes(5000)})
    data = bytearray(whole.read_bytes())
    data[2000] ^= 255
    whole.write_bytes(data)
    with pytest.raises(RequestRefusal, match="the zip archive is damaged"):
        found(whole)


def test_a_password_is_told(packed: Pack) -> None:
    path = packed({"7/a.png": IMAGE})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = archive.start_dir
    data[start + 8] |= 1  # "encrypted" in the central directory
    path.write_bytes(data)
    with pytest.raises(RequestRefusal, match="the archive has a password"):
        found(path)


def test_too_many_images_are_refused(packed: Pack) -> None:
    path = packed({f"{k}.png": IMAGE for k in range(4)})
    with pytest.raises(RequestRefusal, match="more than 3 images: upload them in parts"):
        found(path, max_files=3)


def test_loose_files_are_taken_by_name_and_size(tmp_path: Path) -> None:
    image, big = tmp_path / "a.png", tmp_path / "b.png"
    image.write_bytes(IMAGE)
    big.write_bytes(IMAGE + bytes(2 << 20))
    notes = tmp_path / "notes.txt"
    notes.write_text("about the pictures")
    files = [("7/a.png", image), ("7/b.png", big), ("7/c.png", None), ("notes.txt", notes)]
    good, large, refused = pictures(files, DemoConfig(max_upload_mib=1))
    assert good == Picture("7/a.png", IMAGE)
    assert large.problem is not None and "2.0 MiB, at most 1 MiB" in large.problem
    assert refused.problem == "not uploaded: more than 1 MiB?"


LEFT_BEHIND = [
    "7/.ipynb_checkpoints/a-checkpoint.png",
    "7/@eaDir/a.png/SYNOPHOTO_THUMB_M.png",
    ".Trash-1000/files/a.png",
    "photos/$Recycle.Bin/S-1-5-21-7/a.png",
    "7\\Thumbs.db",
    "__MACOSX/7/a.png",
    "7/._a.png",
]


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_systems_leave_is_no_picture(packed: Pack, name: str, tmp_path: Path) -> None:
    assert found(packed({name: IMAGE, "7/b.png": IMAGE})) == [Picture("7/b.png", IMAGE)]
    loose = tmp_path / "loose"
    loose.write_bytes(IMAGE)
    files = [(name, loose), ("7/b.png", loose)]
    assert [*pictures(files, DemoConfig())] == [Picture("7/b.png", IMAGE)]


@pytest.mark.parametrize("name", ["7/a.jfif", "7/a", "7/a.jpe", "7/a.HEIC", "7/a.txt"])
def test_the_content_says_what_a_picture_is(packed: Pack, name: str) -> None:
    assert found(packed({name: IMAGE})) == [Picture(name, IMAGE)]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("7/a.png", b"<html>", "called like pictures and are none"),
        ("7/a.jpg", b"", "empty files"),
        ("7/a.png", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointers"),
        ("7/a.nef", b"II*\0" + bytes(60), "camera raw files"),
        ("7/a.jxl", b"\xff\x0a" + bytes(60), "JPEG XL files"),
    ],
)
def test_what_was_meant_as_a_picture_gets_a_row(
    packed: Pack, name: str, data: bytes, said: str
) -> None:
    (row,) = found(packed({name: data, "7/notes.txt": b"x", "7/clip.mov": b"\0\0\0\x14ftypqt  "}))
    assert row.name == name and not row.data
    assert row.problem is not None and said in row.problem


def test_a_label_is_the_same_from_a_mac(packed: Pack) -> None:
    (only,) = found(packed({"cafe\u0301/a.png": IMAGE}))
    assert only.folder == "caf\u00e9"
