"""What a file among pictures is, and which names are a system's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mldr_deploy.bundle.debris import is_debris, lies_in_debris
from mldr_deploy.bundle.intake import Kind, claims_picture, judge

JPEG = b"\xff\xd8\xff\xe0" + bytes(60)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(30)


@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", "._a.png", ".ipynb_checkpoints", ".Trash-1000", ".AppleDouble", ".git"),
        *(".Spotlight-V100", ".fseventsd", ".thumbnails", ".picasaoriginals", ".dvc", ".svn"),
        *("__MACOSX", "__macosx", "lost+found", "Lost+Found", "Thumbs.db", "THUMBS.DB"),
        *("desktop.ini", "Desktop.ini", "$RECYCLE.BIN", "$Recycle.Bin", "@eaDir", "@EADIR"),
        *("System Volume Information", "#recycle", "@Recycle", "__pycache__", "LOST.DIR"),
        *("S-1-5-21-1004336348-1177238915-682003330-512", "FOUND.000", "_vti_cnf", "Icon\r"),
        *("a.png~", "a.jpg_original", "a.jpg.bak", "a.png@SynoEAStream", "@Recently-Snapshot"),
    ],
)
def test_names_of_systems_are_passed_over(name: str) -> None:
    assert is_debris(name)
    assert lies_in_debris(f"train/{name}/deep/a.png") and lies_in_debris(f"train\\{name}")


@pytest.mark.parametrize(
    "name",
    [
        *("thumbs", "recycle", "Recycled", "trash", "cache", "cat", "CVS", "snapshot", "found"),
        *(
            "system",
            "original",
            "van_gogh_original",
            "temp",
            "@home",
            "#1",
            "$5",
            "_other",
            "eaDir",
        ),
        *("MACOSX", "lost and found", "desktop", "S-1-5", "fake~real", "日本"),
        ".IMG_0001.jpg.icloud",
    ],
)
def test_names_of_classes_and_pictures_are_not(name: str) -> None:
    assert not is_debris(name) and not lies_in_debris(f"../{name}/a.png")


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()[:64]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("suffix", ["", ".jfif", ".jpe", ".HEIC", ".png"])
def test_the_content_makes_a_picture(form: str, suffix: str) -> None:
    assert judge(f"a{suffix}", encoded(form)).kind is Kind.PICTURE


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("a.jpg", b"<!DOCTYPE html>", "called like pictures and are none"),
        ("a.JPG", b"", "empty files"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("a.png", b"/annex/objects/SHA256E-s1--00.png", "git annex get"),
        (".a.jpg.icloud", b"bplist00", "not downloaded"),
        ("a.jpg.dvc", b"outs:", "not downloaded"),
        ("a.jpg.crdownload", JPEG, "not downloaded"),
        ("a.NEF", b"MM\0*" + bytes(60), "camera raw files"),
        ("a.dng", b"II*\0" + bytes(60), "camera raw files"),
        ("a.CR2", JPEG, "camera raw files"),
        ("a.jxl", b"\xff\x0a" + bytes(60), "JPEG XL"),
        ("a", b"8BPS\0\1", "Photoshop"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        ("a.svg", b"<svg xmlns=", ".svg files"),
    ],
)
def test_what_was_meant_as_a_picture_is_a_loss(name: str, head: bytes, said: str) -> None:
    verdict = judge(name, head)
    assert verdict.kind is Kind.LOST and said in verdict.reason


def test_a_format_without_its_plug_in_is_a_loss_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mldr_deploy.bundle import intake

    remedy = 'pip install "mldr-deploy[heic]"'
    monkeypatch.setattr(intake, "missing_reader", lambda form: remedy if form == "HEIF" else None)
    for name in ("a.heic", "a.jpg", "a"):
        verdict = judge(name, HEIC)
        assert verdict.kind is Kind.LOST and verdict.replaceable
        assert "HEIF files" in verdict.reason and "mldr-deploy[heic]" in verdict.reason
    monkeypatch.setattr(intake, "missing_reader", lambda form: None)
    assert judge("a.heic", HEIC).kind is Kind.PICTURE


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("README.txt", b"about"),
        ("notes.txt", b"BMW and others"),  # begins like a BMP file
        ("list.csv", b"P1 and P2"),
        ("a.json", b"{}"),
        ("a.xml", b"<annotation>"),
        ("IMG_1.MOV", b"\0\0\0\x14ftypqt  "),
        ("IMG_1.mp4", b"\0\0\0\x20ftypisom"),
        ("IMG_1.AAE", b"<?xml"),
        ("Makefile", b"all:"),
        ("data.dvc", b"outs:"),
    ],
)
def test_what_lies_beside_pictures_is_no_loss(name: str, head: bytes) -> None:
    assert judge(name, head).kind is Kind.UNRELATED and not claims_picture(name)


def test_a_resource_fork_is_debris_whatever_its_name() -> None:
    assert judge("000.png", b"\0\5\x16\7\0\2").kind is Kind.DEBRIS
