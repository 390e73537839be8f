from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, top_k_accuracy_score

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.demo.archive import Picture
from mldr_deploy.demo.batch import as_json, batch_page
from mldr_deploy.demo.confusion import confusion_picture
from mldr_deploy.demo.loaded_student import LoadedStudent
from mldr_deploy.demo.scoring import HEADS, Row, Scores, score


@pytest.fixture(scope="module")
def images(bundle: Bundle, encode: Callable[..., bytes]) -> list[Picture]:
    """30 images, a third of them under another class's name."""
    golden = bundle.golden
    return [
        Picture(f"{(k + k // 10) % 10}/{k}.png", encode(golden.sources[k % 10])) for k in range(30)
    ]


def scored(images: Any, student: LoadedStudent, **options: Any) -> Scores:
    *_, last = score(images, student.forms["fp32"], 10_000, **options)
    return last


def test_accuracy_and_confusion_are_scikit_learn_s(images: Any, student: LoadedStudent) -> None:
    scores = scored(images, student)
    golden = student.bundle.golden
    order = np.arange(30) % 10
    labels = np.array([int(image.folder) for image in images])
    said = golden.logits.argmax(1)[order]
    assert scores.top(1) == pytest.approx(100 * accuracy_score(labels, said))
    expected = top_k_accuracy_score(labels, golden.logits[order], k=5, labels=range(10))
    assert scores.top(5) == pytest.approx(100 * expected)
    matrix = confusion_matrix(labels, said, labels=range(10))
    assert np.array_equal(scores.confusion(), matrix)
    most = scores.mistakes()[0]
    assert (
        matrix[int(most[0]), int(most[1])] == most[2] == (matrix - np.diag(matrix.diagonal())).max()
    )


def test_batches_do_not_change_the_answers(images: Any, student: LoadedStudent) -> None:
    one, many = scored(images, student, batch=1), scored(images, student, batch=16)
    assert [row.predicted for row in one.rows] == [row.predicted for row in many.rows]
    assert [row.probability for row in one.rows] == pytest.approx(
        [r.probability for r in many.rows]
    )


def test_a_bad_image_is_a_row_with_its_reason_and_the_order_stays(
    images: Any, student: LoadedStudent
) -> None:
    bad = [Picture("3/x.png", b"nonsense"), Picture("4/y.png", problem="too far away")]
    scores = scored([images[0], *bad, images[1]], student)
    assert [row.name for row in scores.rows] == ["0/0.png", "3/x.png", "4/y.png", "1/1.png"]
    assert "not an image in a format taken here" in scores.rows[1].problem
    assert scores.rows[2].problem == "too far away"
    assert len(scores.answered) == len(scores.labelled) == 2
    assert "2 of 4 files got no answer" in batch_page(scores)


def test_a_thin_image_that_would_fill_the_memory_is_a_row_with_its_reason(
    images: Any, student: LoadedStudent
) -> None:
    file = io.BytesIO()
    Image.new("L", (1, 1_000_000)).save(file, "PNG")
    pictures = [images[0], Picture("3/x.png", file.getvalue()), images[1]]
    *_, scores = score(pictures, student.forms["fp32"], 25_000_000)
    assert "1 x 1000000 pixels would become" in scores.rows[1].problem
    assert len(scores.answered) == 2


def test_without_labels_the_page_says_how_to_give_them(images: Any, student: LoadedStudent) -> None:
    scores = scored([Picture("a.png", image.data) for image in images[:3]], student)
    assert scores.top(1) is None and as_json(scores)["top1"] is None
    assert "put images into folders that are called like classes" in batch_page(scores)
    assert confusion_picture(scores) == ""


def test_the_csv_reads_back_and_no_name_acts_as_a_formula() -> None:
    row = Row('=HYPERLINK("x"),"y"/a.png', 1, 0.75, (1,), 0)
    scores = Scores(["cat", "+dog"], [row, Row("b.png", problem="bad")])
    heads, first, second = csv.reader(io.StringIO(scores.csv()))
    assert tuple(heads) == HEADS
    assert first == ['\'=HYPERLINK("x"),"y"/a.png', "'+dog", "0.7500", "cat", "no", ""]
    assert second == ["b.png", "", "", "", "", "bad"]


def test_the_picture_is_well_formed_and_escaped() -> None:
    labels = ["<script>", "a & b", *map(str, range(60))]
    rows = [Row("x", (k + k % 3) % 62, 0.5, (), k) for k in range(62)]
    svg = confusion_picture(Scores(labels, rows))
    tree = ElementTree.fromstring(svg)
    assert "30 of 62 with the most mistakes" in svg
    assert len([e for e in tree.iter("rect") if e.get("class") == "md-cell"]) == 30 * 30
    assert "<script>" not in svg
