"""The Classify tab: a file, the clipboard, a camera, the bundle's own images, or a pen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bundle.golden import Golden
from .gallery import gallery
from .html import notice
from .image_classifier import EMPTY, ImageClassifier
from .loaded_student import LoadedStudent
from .look import Viewer, nothing_runs
from .pad import drawing_pad

USERS = 8  # answers at a time; the models themselves are asked in turn


def classify_tab(page: Any, tab: ImageClassifier, files: list[str]) -> Any:
    """Draw the tab inside the Blocks ``page`` and give its artifact switch.

    ``files`` are the bundle's own images; the first is answered as soon as the page is there.
    """
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            image, pad = _inputs(tab, files)
        with gr.Column(scale=7, min_width=300):
            artifact = _switch(tab.viewer)
            answer = gr.HTML(EMPTY, elem_id="md-answer")
            comparison = gr.HTML("", elem_id="md-others")
    last = gr.State(("picture", ""))  # what is being looked at, for the switch to ask again

    def pictured(path: str | None, name: str | None) -> tuple[Any, ...]:
        return *tab.picture(path, name), ("picture", path or "")

    def drawn(event: gr.EventData, name: str | None) -> tuple[Any, ...]:
        url = str(event.picture)  # of the canvas's own event
        return *tab.drawn(url, name), ("drawing", url)

    drawn.__annotations__["event"] = gr.EventData  # as in _picture

    def switched(subject: tuple[str, str], name: str | None) -> tuple[str, str]:
        kind, content = subject
        return tab.drawn(content, name) if kind == "drawing" else tab.picture(content, name)

    quiet: dict[str, Any] = {
        "show_progress": "hidden",
        "api_visibility": "private",
        "concurrency_limit": USERS,
    }
    image.change(pictured, [image, artifact], [answer, comparison, last], **quiet)
    page.load(pictured, [image, artifact], [answer, comparison, last], **quiet)
    artifact.change(switched, [last, artifact], [answer, comparison], **quiet)
    if pad is not None:
        pad.drawn(drawn, [artifact], [answer, comparison, last], **quiet)
    _endpoint(tab, image, artifact)
    return artifact


def samples(golden: Golden, folder: Path) -> list[str]:
    """The bundle's own images as files, written losslessly into ``folder``."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, source in enumerate(golden.sources):
        path = folder / f"test-image-{golden.index[k]}.png"
        Image.fromarray(source if source.size else golden.pixels[k]).save(path)
        paths.append(str(path))
    return paths


def upload(**options: Any) -> Any:
    """An image component that hands over the path of the bytes as they were uploaded.

    Gradio's own ``preprocess`` would decode and save them anew, before any limit was looked at.
    Replaced in the object, since for a subclass Gradio writes a file beside this one.
    """
    import gradio

    image: Any = gradio.Image(type="filepath", **options)
    image.preprocess = lambda payload: None if payload is None else payload.path
    return image


def _inputs(tab: ImageClassifier, files: list[str]) -> tuple[Any, Any]:
    """The picture, the bundle's own ones, and the drawing area where the classes are digits."""
    import gradio as gr

    if not tab.draws:
        return _picture(tab, files), None
    with gr.Tabs():
        with gr.Tab("Picture"):
            image = _picture(tab, files)
        with gr.Tab("Draw a digit"):
            pad = drawing_pad()
    return image, pad


def _picture(tab: ImageClassifier, files: list[str]) -> Any:
    import gradio as gr

    image = upload(
        value=files[0],
        label="Picture",
        sources=["upload", "clipboard", "webcam"],
        height=300,
        buttons=[],
        elem_id="md-image",
        alt_text="The picture to classify",
    )
    golden, labels = tab.viewer.student.bundle.golden, tab.viewer.manifest.labels
    examples = gallery([*golden.pixels], [labels[int(k)] for k in golden.label])

    def file_of(event: gr.EventData) -> str:
        return files[int(event.number)]

    file_of.__annotations__["event"] = gr.EventData  # as text, Gradio would not know it
    examples.chosen(file_of, None, image, show_progress="hidden", api_visibility="private")
    return image


def _switch(viewer: Viewer) -> Any:
    """The artifacts that run here; of the others, why not."""
    import gradio as gr

    student = viewer.student
    artifact = gr.Radio(
        [*student.forms],
        value=student.first,
        label="Artifact",
        info=_loaded(student),
        visible=bool(student.forms),
        elem_id="md-artifact",
    )
    if not student.forms:
        gr.HTML(notice(nothing_runs(student), "bad"))
    elif student.left_out:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in student.left_out.items())
        gr.HTML(notice(f"Not run here: {reasons}"))
    return artifact


def _loaded(student: LoadedStudent) -> str:
    """How many of the artifacts can be switched to."""
    loaded, total = len(student.forms), len(student.bundle.manifest.artifacts)
    if loaded < total:
        return f"{loaded} of {total} are loaded; below, why not {', '.join(student.left_out)}."
    return "All are loaded: switch at once." if total > 1 else "The only one of this bundle."


def _endpoint(tab: ImageClassifier, image: Any, artifact: Any) -> None:
    import gradio as gr

    def classify(path: str | None, name: str | None) -> dict[str, Any]:
        return tab.answer(path, name)

    gr.Button(visible=False).click(
        classify,
        [image, artifact],
        gr.JSON(visible=False),
        api_name="classify",
        api_description="Labels of an image: top 5 with probabilities, of the student and, where "
        "it is loaded, the teacher; agreement; milliseconds by stage.",
        concurrency_limit=USERS,
    )
