"""The tabs that show what the bundle holds: Proof, Latency, About."""

from __future__ import annotations

import threading
from typing import Any

from ..bundle.reader import Bundle
from ..errors import MldrError
from ..profiler.markdown import markdown
from ..profiler.report import Report
from .about import card, card_without_pictures, summary
from .demo_config import DemoConfig
from .html import notice
from .latency_page import latency_page, measured_here
from .loaded_student import LoadedStudent
from .loaded_teacher import LoadedTeacher
from .proof_page import proof_page


def proof_tab(student: LoadedStudent) -> None:
    """The parity proofs of the manifest."""
    import gradio as gr
    from gradio.events import api

    gr.HTML(proof_page(student), elem_id="md-proof")

    def proof() -> list[dict[str, Any]]:
        artifacts = student.bundle.manifest.artifacts
        return [
            {
                "file": artifact.file,
                "precision": artifact.precision,
                "status": artifact.status,
                "parity": artifact.parity.model_dump(mode="json"),
                "needed": artifact.parity.needed.model_dump(mode="json"),
            }
            for artifact in artifacts
        ]

    api(proof, api_name="proof", api_description="Parity of every artifact, from the manifest.")


def latency_tab(bundle: Bundle, config: DemoConfig, report: Report | None) -> None:
    """The latest report: the one that was found at the start, or the one measured here."""
    import gradio as gr
    from gradio.events import api

    with gr.Row(equal_height=True):
        button = gr.Button(
            "Measure here and now",
            variant="primary",
            size="md",
            scale=0,
            min_width=220,
            elem_id="md-measure",
        )
        gr.HTML(
            '<p class="md-dim">Some seconds: every artifact on the bundle\'s own images, one at a '
            "time and eight at a time. Other users of this page wait or slow it down.</p>"
        )
    page = gr.HTML(latency_page(report, bundle), elem_id="md-latency")
    clock_lock = threading.Lock()

    def measured(progress: Any) -> Report:
        with clock_lock:
            return measured_here(bundle, config.runtime, config.threads, progress)

    def measured_page(progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        try:
            return latency_page(measured(PageProgress(progress)), bundle)
        except MldrError as error:
            return notice(str(error), "bad")

    def measure() -> str:
        try:
            return markdown(measured(PageProgress(None)))
        except MldrError as error:
            raise gr.Error(str(error), print_exception=False) from None

    button.click(
        measured_page,
        None,
        page,
        api_visibility="private",
        concurrency_limit=1,
        concurrency_id="clock",
    )
    api(
        measure,
        api_name="measure",
        api_description="A short latency profile here and now, as Markdown.",
        concurrency_limit=1,
        concurrency_id="clock",
    )


def about_tab(bundle: Bundle, teacher: LoadedTeacher | None) -> None:
    """Figures and the model card."""
    import gradio as gr
    from gradio.events import api

    gr.HTML(summary(bundle.manifest, teacher), elem_id="md-summary")
    gr.Markdown(card_without_pictures(bundle), elem_id="md-card")

    def about() -> str:
        return card(bundle)

    api(about, api_name="about", api_description="The model card, Markdown.")


class PageProgress:
    """``bundle.progress.Progress`` on the page's own bar."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._name, self._count, self._total = bar, "", 0, 0

    def start(self, name: str, total: int | None) -> None:
        self._name, self._total, self._count = name, total or 0, 0
        self._tell(name)

    def advance(self, n: int = 1, **info: float | str) -> None:
        self._count += n
        self._tell("  ".join(f"{key} {value}" for key, value in info.items()) or self._name)

    def finish(self) -> None:
        """Nothing: the result replaces the bar."""

    def note(self, text: str) -> None:
        """Nothing: the report says it too."""

    def _tell(self, text: str) -> None:
        if self._bar is not None:
            self._bar((self._count, self._total) if self._total else None, desc=text)
