"""The Batch tab: a folder or a zip archive of images -> table, CSV, accuracy, confusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..bundle.wording import counted
from ..errors import MldrError
from ..serve.request_refusal import RequestRefusal
from .batch import BatchScorer, as_json, batch_page
from .folder_upload import folder_button, received
from .html import notice
from .scoring import HEADS, Scores

_MOST_ROWS = 2000  # in the page's table; the CSV file has all
_USERS = 2


def batch_tab(tab: BatchScorer, samples: list[str], artifact: Any) -> None:
    """Draw the tab; the artifact is the one that the Classify tab's switch is at."""
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            files = gr.File(
                label="Images, or a zip archive of them",
                file_count="multiple",
                height=190,
                elem_id="md-files",
            )
            folder = folder_button()
            bundle_button = gr.Button(
                "Use the bundle's own test images", size="md", elem_id="md-own"
            )
            csv = gr.DownloadButton(
                "Download CSV", visible=False, size="md", variant="primary", elem_id="md-csv"
            )
            gr.HTML(
                '<p class="md-dim">Images in folders that are called like classes '
                f"(<code>cat/001.jpg</code>) are scored. One upload: at most "
                f"{tab.config.max_upload_mib:g} MiB.</p>"
            )
        with gr.Column(scale=7, min_width=300):
            result = gr.HTML('<p class="md-empty">The result appears here.</p>', elem_id="md-batch")
    rows = gr.Dataframe(
        headers=[*HEADS],
        interactive=False,
        visible=False,
        wrap=True,
        elem_id="md-rows",
        label="Every image",
        max_height=420,
    )

    def progress(scores: Callable[[], Iterator[Scores]]) -> Iterator[Any]:
        try:
            last = None
            for last in scores():
                yield (
                    notice(f"{counted(len(last.answered), 'image')} answered"),
                    gr.skip(),
                    gr.skip(),
                )
            assert last is not None
            table = [*last.cells()][:_MOST_ROWS]
            yield (
                batch_page(last),
                gr.update(value=tab.written(last), visible=True),
                gr.update(value=table, visible=True),
            )
        except (RequestRefusal, MldrError) as error:
            hidden = gr.update(visible=False)
            yield notice(f"Not taken: {error}.", "bad"), hidden, hidden

    def uploaded(paths: list[str] | None, name: str | None) -> Iterator[Any]:
        yield from progress(lambda: tab.uploaded(_named(paths), name))

    def sent(event: gr.EventData, name: str | None) -> Iterator[Any]:
        yield from progress(lambda: tab.uploaded(received(event.files, tab.uploads), name))

    sent.__annotations__["event"] = gr.EventData  # as text, Gradio would not know it

    def from_bundle(name: str | None) -> Iterator[Any]:
        yield from progress(lambda: tab.bundle_scores(samples, name))

    outputs = [result, csv, rows]
    quiet: dict[str, Any] = {
        "show_progress": "hidden",
        "api_visibility": "private",
        "concurrency_limit": _USERS,
    }
    files.upload(uploaded, [files, artifact], outputs, **quiet)
    folder.sent(sent, [artifact], outputs, **quiet)
    bundle_button.click(from_bundle, [artifact], outputs, **quiet)
    _endpoint(tab, files, artifact)


def _named(paths: list[str] | None) -> list[tuple[str, str | None]]:
    return [(Path(path).name, path) for path in paths or []]


def _endpoint(tab: BatchScorer, files: Any, artifact: Any) -> None:
    import gradio as gr

    def batch(paths: list[str] | None, name: str | None) -> tuple[dict[str, Any], str]:
        try:
            *_, last = tab.uploaded(_named(paths), name)
            return as_json(last), tab.written(last)
        except (RequestRefusal, MldrError) as error:
            raise gr.Error(str(error), print_exception=False) from None

    gr.Button(visible=False).click(
        batch,
        [files, artifact],
        [gr.JSON(visible=False), gr.File(visible=False)],
        api_name="batch",
        api_description="Images or zip archives of them: counts, accuracy where folders are "
        "called like classes, and a CSV file with a row an image.",
        concurrency_limit=_USERS,
    )
