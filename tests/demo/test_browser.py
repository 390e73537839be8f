"""The page in a real Chromium: what a person does, at a phone's and a desk's width.

Needs Playwright and a Chromium of the system; where they are missing, the tests are skipped and say
what to install.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mldr_deploy.bundle.reader import Bundle

pytestmark = pytest.mark.slow
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT = 90_000  # ms; a loaded machine draws slowly
SEVEN = [(85, 60), (195, 60), (125, 230)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((path for name in names if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


class Person:
    """Someone with the page open; keeps every address that the browser asked for."""

    def __init__(self, browser: Any, url: str, width: int = 1280, colours: str = "light") -> None:
        size = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=size, color_scheme=colours)
        self.context.set_default_timeout(WAIT)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.broken: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.broken.append(str(error)))
        self.page.goto(url)
        self.said(lambda text: "says the student" in text)

    def said(self, holds: Callable[[str], bool]) -> str:
        """The verdict (or refusal), once it is what is waited for."""
        answer = self.page.locator("#md-answer")
        for _ in range(WAIT // 100):
            text = answer.inner_text() if answer.count() else ""
            if holds(text):
                return str(text)
            self.page.wait_for_timeout(100)
        raise AssertionError(f"the page says {text!r}")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def upload(self, path: Path) -> None:
        self.page.locator("#md-image input[type=file]").first.set_input_files(path)

    def top(self) -> tuple[str, str]:
        """(artifact, first label) of the student's card."""
        card = self.page.locator(".md-card").first
        return card.locator("header b").inner_text(), card.locator(".md-label").first.inner_text()

    def draw(self, points: list[tuple[int, int]]) -> None:
        box = self.page.locator("#md-pad canvas").bounding_box()
        scale = box["width"] / 280
        moves = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in points]
        self.page.mouse.move(*moves[0])
        self.page.mouse.down()
        for move in moves[1:]:
            self.page.mouse.move(*move, steps=10)
        self.page.mouse.up()


@pytest.fixture
def visit(browser: Any, live: Any) -> Iterator[Callable[..., Person]]:
    """``visit(width=, colours=)``: a person; at the end nothing outside was asked for."""
    people: list[Person] = []

    def come(**options: Any) -> Person:
        people.append(Person(browser, live.url, **options))
        return people[-1]

    yield come
    for person in people:
        local = (live.url, "data:", "blob:")
        assert [url for url in person.asked if not url.startswith(local)] == []
        assert person.broken == []
        person.context.close()


@pytest.fixture
def seven(bundle: Bundle, tmp_path: Path, encode: Callable[..., bytes]) -> Path:
    path = tmp_path / "seven.png"
    path.write_bytes(encode(bundle.golden.sources[7]))
    return path


def test_an_upload_is_answered_and_the_artifact_switched(visit: Any, seven: Path) -> None:
    person = visit()
    person.upload(seven)
    person.said(lambda text: "right: it is 7" in text)
    assert person.top() == ("fp32", "7")
    person.page.get_by_label("int8").click()
    person.page.locator(".md-card header b", has_text="int8").wait_for()
    assert person.top() == ("int8", "7")
    assert "beside int8" in person.page.locator("#md-others caption").inner_text()


def test_an_image_of_the_bundle_is_chosen_with_the_keyboard(visit: Any) -> None:
    person = visit()
    button = person.page.get_by_role("button", name="Test image 4: 3")
    button.focus()
    person.page.keyboard.press("Enter")
    person.said(lambda text: "it is 3" in text)


def test_a_drawn_digit_is_answered_and_cleared(visit: Any) -> None:
    person = visit()
    person.tab("Draw a digit")
    person.draw(SEVEN)
    person.said(lambda text: text.startswith("7, says the student") and "right" not in text)
    person.page.get_by_role("button", name="Clear").click()
    person.said(lambda text: "Draw a digit" in text)


def test_garbage_is_told_in_words_and_the_next_picture_is_answered(
    visit: Any, seven: Path, tmp_path: Path
) -> None:
    person = visit()
    garbage = tmp_path / "holiday.png"
    garbage.write_bytes(b"\x00\x01 not a picture")
    person.upload(garbage)
    person.said(lambda text: "Not taken: not an image in a format taken here: JPEG" in text)
    assert person.page.locator("#md-answer [role=alert]").count() == 1
    person.page.get_by_role("button", name="Remove Image").click()
    person.upload(seven)
    person.said(lambda text: "it is 7" in text)


def test_a_file_above_the_limit_is_told_with_the_limit(visit: Any, tmp_path: Path) -> None:
    person = visit()
    large = tmp_path / "large.png"
    large.write_bytes(bytes(17 << 20))
    person.upload(large)
    told = person.page.get_by_text("exceed the maximum allowed size of 16.0 Mb").first
    told.wait_for()
    assert all("exceed" in error for error in person.broken)  # Gradio throws what it also shows
    person.broken.clear()


def test_a_real_cifar_image_is_taken_by_a_model_of_digits(
    visit: Any, cifar100_root: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(cifar100_root / "cifar100-test.parquet")
    images = table.column(next(name for name in table.column_names if "im" in name))
    row = images[0].as_py()
    path = tmp_path / "cifar.png"
    path.write_bytes(row["bytes"] if isinstance(row, dict) else row)
    person = visit()
    person.upload(path)
    person.said(lambda text: "says the student" in text and "it is" not in text)
    assert person.top()[1] in "0123456789"


def test_proof_and_latency_and_about_show_what_they_are_for(visit: Any) -> None:
    person = visit()
    person.tab("Proof")
    failed = person.page.get_by_label("student.fp16.onnx")
    assert "would have needed 4.20 points" in failed.inner_text()
    colour = failed.locator("td.md-no").evaluate("cell => getComputedStyle(cell).color")
    red, green, blue = (int(part) for part in colour[4:-1].split(","))
    assert red > 2 * green and red > 2 * blue
    person.tab("Latency")
    assert "No latency report of this bundle yet" in person.page.locator("#md-latency").inner_text()
    person.page.get_by_role("button", name="Measure here and now").click()
    person.page.locator("#md-latency .md-report").wait_for()
    assert "student.int8.onnx" in person.page.locator("#md-latency").inner_text()
    person.tab("About")
    assert "How good it is" in person.page.locator("#md-card").inner_text()


def test_a_zip_and_the_bundle_s_own_images_are_scored(
    visit: Any, bundle: Bundle, packed: Any, encode: Callable[..., bytes], tmp_path: Path
) -> None:
    golden = bundle.golden
    archive = packed({f"{golden.label[k]}/{k}.png": encode(golden.sources[k]) for k in range(10)})
    person = visit()
    person.tab("Batch")
    person.page.locator("#md-files input[type=file]").set_input_files(archive)
    person.page.locator("#md-batch .md-confusion").wait_for()
    assert "top-1 of 10 labelled" in person.page.locator("#md-batch").inner_text()
    with person.page.expect_download() as download:
        person.page.get_by_role("button", name="Download CSV").click()
    text = Path(download.value.path()).read_text()
    assert text.startswith("file,says,probability") and text.count("\n") == 11
    person.page.get_by_role("button", name="Use the bundle's own test images").click()
    person.page.locator("#md-rows :text('test-image-'):visible").first.wait_for()


def test_a_folder_keeps_the_names_of_its_folders(
    visit: Any, bundle: Bundle, encode: Callable[..., bytes], tmp_path: Path
) -> None:
    for k in (2, 5):
        folder = tmp_path / "photos" / str(bundle.golden.label[k])
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encode(bundle.golden.sources[k]))
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    person = visit()
    person.tab("Batch")
    with person.page.expect_file_chooser() as chooser:
        person.page.get_by_role("button", name="Upload a folder").click()
    chooser.value.set_files(tmp_path / "photos")
    person.page.locator("#md-batch .md-confusion").wait_for()
    assert "top-1 of 2 labelled" in person.page.locator("#md-batch").inner_text()


def test_two_people_at_once_get_their_own_answers(
    visit: Any, bundle: Bundle, tmp_path: Path, encode: Callable[..., bytes]
) -> None:
    people = [visit(), visit()]
    for turn in range(4):
        for number, person in enumerate(people):
            k = (turn + 5 * number) % 10
            path = tmp_path / f"{number}-{turn}.png"
            path.write_bytes(encode(bundle.golden.sources[k]))
            if turn:
                person.page.get_by_role("button", name="Remove Image").click()
            person.upload(path)
        for number, person in enumerate(people):
            person.said(lambda text, k=(turn + 5 * number) % 10: f"it is {k}" in text)


@pytest.mark.parametrize("width", [390, 820, 1440])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_fits_the_width_in_both_colours(visit: Any, width: int, colours: str) -> None:
    person = visit(width=width, colours=colours)
    for name in ("Classify", "Batch", "Proof", "Latency", "About"):
        person.tab(name)
        person.page.wait_for_timeout(200)
        wide = person.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} pixels wide at {width}"
    pixels = _screenshot(person)
    assert (pixels[:, 2].mean() < 90) == (colours == "dark")


def test_the_colours_can_be_switched_and_stay(visit: Any) -> None:
    person = visit()
    before = _screenshot(person)[:, 2].mean()
    person.page.get_by_role("button", name="Switch between light and dark colours").click()
    person.page.wait_for_timeout(300)
    assert before > 200 and _screenshot(person)[:, 2].mean() < 90
    person.page.reload()
    person.said(lambda text: "says the student" in text)
    assert _screenshot(person)[:, 2].mean() < 90


def test_everything_that_can_be_pressed_has_a_name(visit: Any) -> None:
    person = visit()
    nameless = """() => [...document.querySelectorAll("button, a[href], input, canvas")]
      .filter(e => e.offsetParent !== null)
      .filter(e => !(e.innerText || e.getAttribute("aria-label") || e.title || e.labels?.length))
      .map(e => e.outerHTML.slice(0, 200))"""
    for name in ("Classify", "Draw a digit", "Batch", "Proof", "Latency", "About"):
        person.tab(name)
        person.page.wait_for_timeout(200)
        assert person.page.evaluate(nameless) == [], name


def _screenshot(person: Person) -> np.ndarray:
    """Pixels [N, 3] of the page's left edge: its ground."""
    data = person.page.screenshot(clip={"x": 0, "y": 0, "width": 8, "height": 600})
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3)
