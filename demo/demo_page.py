"""The page: head and five tabs over one loaded bundle."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle.reader import Bundle
from ..profiler.report import Report
from .about import header
from .batch import BatchScorer
from .batch_tab import batch_tab
from .classify_tab import classify_tab, samples
from .demo_config import HOST, DemoConfig
from .image_classifier import ImageClassifier
from .loaded_student import LoadedStudent
from .loaded_teacher import LoadedTeacher
from .look import Viewer
from .other_tabs import about_tab, latency_tab, proof_tab
from .theme import head, theme

_FILES_KEPT = 3600  # seconds that uploads stay on this machine


@dataclass(frozen=True)
class PageContent:
    """Bundle, loaded models, report and options that the page shows."""

    bundle: Bundle
    student: LoadedStudent
    teacher: LoadedTeacher | None
    report: Report | None
    config: DemoConfig
    folder: Path  # for uploads and CSV files; the caller's to remove


def offline(folder: Path) -> None:
    """Set Gradio's environment, before it is imported: no network, files only in ``folder``.

    Proxies are removed: nothing leaves this machine, and Gradio's HTTP client fails to start where
    a proxy is named that it has no package for (socks5) or cannot read.
    """
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["GRADIO_SSR_MODE"] = "False"


def build_page(content: PageContent) -> Any:
    """The page as Gradio Blocks."""
    import gradio as gr

    viewer = Viewer(content.student, content.teacher)
    images = samples(content.bundle.golden, content.folder / "samples")
    title = f"{content.bundle.manifest.model.get('name', 'student')} - mldr-deploy"
    with gr.Blocks(
        title=title, analytics_enabled=False, delete_cache=(_FILES_KEPT, _FILES_KEPT)
    ) as page:
        gr.HTML(header(content.bundle, content.teacher), elem_id="md-header")
        with gr.Tabs(elem_id="md-tabs"):
            with gr.Tab("Classify", id="classify"):
                artifact = classify_tab(page, ImageClassifier(viewer, content.config), images)
            with gr.Tab("Batch", id="batch"):
                batch_tab(BatchScorer(viewer, content.config, content.folder), images, artifact)
            with gr.Tab("Proof", id="proof"):
                proof_tab(content.student)
            with gr.Tab("Latency", id="latency"):
                latency_tab(content.bundle, content.config, content.report)
            with gr.Tab("About", id="about"):
                about_tab(content.bundle, content.teacher)
    return page


def create_app(content: PageContent) -> Any:
    """The page as an ASGI application, with nothing in it that is fetched from elsewhere."""
    import gradio as gr
    from fastapi import FastAPI

    return gr.mount_gradio_app(
        FastAPI(),
        build_page(content).queue(default_concurrency_limit=4),
        path="/",
        server_name=HOST,
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=content.config.max_upload,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        head=head(),
    )
