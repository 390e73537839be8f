"""Pictures that cannot be read are named; fingerprints tell pictures apart."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mldr_deploy.data.images import ArrayImages, EncodedImages, FileImages, UnreadableImage


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_picture_is_named(form: str, disk: Any) -> None:
    data = disk.encoded(disk.picture(3, 64, 64), form)
    (disk.root / "cats").mkdir()
    (disk.root / "cats" / "7.img").write_bytes(data[: len(data) // 2])
    images = FileImages(disk.root, [disk.root / "cats" / "7.img"])
    with pytest.raises(UnreadableImage, match=r"^cats/7\.img \(.+\)$"):
        images.rgb(0)


def test_a_picture_that_is_gone_is_named(disk: Any) -> None:
    images = FileImages(disk.root, [disk.root / "gone.png"])
    with pytest.raises(UnreadableImage, match=r"^gone\.png \(No such file or directory\)$"):
        images.rgb(0)


def test_what_is_no_picture_says_so(disk: Any) -> None:
    (disk.root / "notes.png").write_bytes(b"no picture")
    rows = EncodedImages(pa.array([b"", b"no picture"], pa.large_binary()), [("t.parquet", 2)])
    for images, position, words in (
        (
            FileImages(disk.root, [disk.root / "notes.png"]),
            0,
            r"notes\.png \(not an image in a form",
        ),
        (rows, 0, r"row 0 of t\.parquet \(an empty file\)"),
        (rows, 1, r"row 1 of t\.parquet \(not an image in a format taken here: JPEG, PNG"),
    ):
        with pytest.raises(UnreadableImage, match=f"^{words}"):
            images.rgb(position)


def test_what_no_rule_decides_is_named(disk: Any) -> None:
    shallow = Image.fromarray(np.full((4, 4), 4000, np.uint16))
    rows = pa.array([disk.encoded(shallow, "TIFF")], pa.large_binary())
    with pytest.raises(UnreadableImage, match=r"^row 0 of t \(no 16-bit value is above 4000"):
        EncodedImages(rows, [("t", 1)]).rgb(0)


def test_a_fingerprint_sees_where_one_picture_ends() -> None:
    digests = []
    for rows in ([b"ab", b"c"], [b"a", b"bc"], [b"ab", b"c"]):
        digest = hashlib.sha256()
        array = pa.array([b"not in the slice", *rows], pa.large_binary())
        EncodedImages(array.slice(1), [("t", 2)]).feed(digest)
        digests.append(digest.hexdigest())
    assert digests[0] == digests[2] != digests[1]


def test_arrays_of_another_form_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"uint8 \[N, h, w, 3\], not float64 \(2, 4, 4, 3\)"):
        ArrayImages(np.zeros((2, 4, 4, 3)))  # type: ignore[arg-type]
