from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.demo.drawing import decoded, draws, scanned
from mldr_deploy.demo.loaded_student import LoadedStudent
from mldr_deploy.demo.look import Viewer
from mldr_deploy.serve.request_refusal import RequestRefusal

STROKES = {
    "0": [(140, 50), (95, 90), (90, 180), (140, 230), (185, 180), (185, 90), (140, 50)],
    "1": [(115, 85), (150, 50), (150, 230)],
    "7": [(85, 60), (195, 60), (125, 230)],
}


def drawing(points: list[tuple[int, int]], shift: int = 0, width: int = 26) -> Image.Image:
    image = Image.new("L", (280, 280))
    moved = [(x + shift, y + shift // 2) for x, y in points]
    ImageDraw.Draw(image).line(moved, fill=255, width=width, joint="curve")
    return image


def blocks(image: Image.Image) -> np.ndarray:
    """Mean of the 8 x 8 blocks, 0 to 1."""
    return np.asarray(image.convert("L")).reshape(8, 4, 8, 4).mean((1, 3)) / 255


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_is_recognised(student: LoadedStudent, digit: str) -> None:
    look = Viewer(student, None).look(scanned(drawing(STROKES[digit])), "fp32", 0.0)
    assert look.student.top[0].label == digit


@pytest.mark.parametrize("digit", STROKES)
def test_it_looks_like_the_scans_of_the_data_set(digit: str) -> None:
    from sklearn.datasets import load_digits

    image = scanned(drawing(STROKES[digit]))
    assert (image.size, image.mode) == ((32, 32), "RGB")
    found = blocks(image)
    assert found.max(1).min() > 0.2  # all eight rows have ink, as those of every scan
    data = load_digits()
    real = data.images[data.target == int(digit)] / 16
    assert abs(found.mean() - real.mean()) < 0.1


def test_where_on_the_canvas_it_is_drawn_does_not_matter() -> None:
    here, there = (scanned(drawing(STROKES["7"], shift)) for shift in (-20, 40))
    assert np.array_equal(np.asarray(here), np.asarray(there))


def test_thin_strokes_grow() -> None:
    thin, thick = (blocks(scanned(drawing(STROKES["7"], width=w))).mean() for w in (8, 26))
    assert thin > 0.6 * thick


def test_an_empty_canvas_says_what_to_do() -> None:
    with pytest.raises(RequestRefusal, match="nothing is drawn yet: draw a digit"):
        scanned(Image.new("L", (280, 280)))


def test_only_a_png_data_url_is_a_drawing(encode: Callable[..., bytes]) -> None:
    png = encode(np.zeros((4, 4, 3), np.uint8))
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    assert decoded(url, 10_000, 100).size == (4, 4)
    for bad in ("", "https://example.org/x.png", "data:image/png;base64,@@", "/etc/passwd"):
        with pytest.raises(RequestRefusal, match="not a PNG data URL"):
            decoded(bad, 10_000, 100)
    with pytest.raises(RequestRefusal, match="more than 20 bytes"):
        decoded(url, 20, 100)
    with pytest.raises(RequestRefusal, match="4 x 4 pixels, at most 8"):
        decoded(url, 10_000, 8)


def test_only_digits_are_drawn(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert draws(manifest)
    assert not draws(manifest.model_copy(update={"data": {"source": "folder:x"}}))
    assert not draws(manifest.model_copy(update={"labels": [*"abcdefghij"]}))
