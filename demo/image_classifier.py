"""One image in, HTML or JSON out: what the Classify tab and its API endpoint call."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..errors import MldrError
from ..serve.request_refusal import RequestRefusal
from .answers import answers, comparison
from .demo_config import DemoConfig
from .drawing import decoded, draws, scanned
from .html import notice
from .look import Answer, Look, Viewer
from .uploaded_image import opened

EMPTY = '<p class="md-empty">Choose a picture: upload, paste, camera, or an example below.</p>'


class ImageClassifier:
    """Answers the tab's events with the HTML of the answer and of the comparison."""

    def __init__(self, viewer: Viewer, config: DemoConfig) -> None:
        self.viewer, self.config = viewer, config
        manifest = viewer.manifest
        self._sizes = {name: form.artifact.size for name, form in viewer.student.forms.items()}
        self.draws = draws(manifest)

    def picture(self, path: str | None, artifact: str | None) -> tuple[str, str]:
        """An uploaded file."""
        if not path:
            return EMPTY, ""
        return self._page(lambda: self.look(path, artifact, compare=True), artifact)

    def drawn(self, url: str, artifact: str | None) -> tuple[str, str]:
        """A drawing, as a data URL."""
        if not url:
            return '<p class="md-empty">Draw a digit: the answer comes when you stop.</p>', ""
        return self._page(lambda: self._drawing(url, artifact), artifact)

    def answer(self, path: str | None, artifact: str | None) -> dict[str, Any]:
        """The same for programs. Raises gradio.Error, whose words reach the caller."""
        import gradio

        try:
            if not path:
                raise RequestRefusal(400, "empty", "no image was sent")
            return as_json(self.look(path, artifact))
        except (RequestRefusal, MldrError) as error:
            raise gradio.Error(str(error), print_exception=False) from None

    def look(self, path: str, artifact: str | None, *, compare: bool = False) -> Look:
        """The answer to an uploaded file. Raises MldrError and RequestRefusal."""
        image, seconds = opened(Path(path), self.config)
        return self.viewer.look(image, self.viewer.named(artifact), seconds, compare=compare)

    def _drawing(self, url: str, artifact: str | None) -> Look:
        began = time.perf_counter()
        image = decoded(url, self.config.max_upload, self.config.max_pixels)
        seconds = time.perf_counter() - began
        return self.viewer.look(scanned(image), self.viewer.named(artifact), seconds, compare=True)

    def _page(self, look: Any, artifact: str | None) -> tuple[str, str]:
        try:
            result = look()
            return answers(result), comparison(result, self._sizes, self.viewer.named(artifact))
        except RequestRefusal as refusal:
            return notice(f"Not taken: {refusal}.", "bad"), ""
        except MldrError as error:
            return notice(str(error), "bad"), ""


def as_json(look: Look) -> dict[str, Any]:
    """What the API answers."""
    return {
        "student": _answer(look.student),
        "teacher": None if look.teacher is None else _answer(look.teacher),
        "agree": look.agree,
        "label": look.truth,
        "milliseconds": {
            "decode": round(1000 * look.decode, 3),
            "preprocess": round(1000 * look.preprocess, 3),
            "compute": round(1000 * look.student.seconds, 3),
        },
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "name": answer.name,
        "predictions": [
            {"label": p.label, "index": p.index, "probability": p.probability} for p in answer.top
        ],
        "milliseconds": round(1000 * answer.seconds, 3),
    }
