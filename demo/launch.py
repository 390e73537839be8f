"""From a bundle's folder to a page in the browser, until a signal ends it."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from ..bundle.progress import Progress, Silent
from ..bundle.reader import open_bundle, require_better_than_chance
from ..errors import Unavailable
from ..runtimes.runtime import RuntimeOptions
from ..runtimes.runtime_choice import require_name
from ..serve.server import listen, run_app, url_of
from .demo_config import HOST, DemoConfig
from .latency_page import found_report
from .loaded_student import LoadedStudent
from .loaded_teacher import load_teacher, trained_folder

_GRACE = 2  # seconds; open pages hold a connection each and would else delay the end


def demo(
    path: Path,
    config: DemoConfig,
    *,
    teacher: Path | None = None,
    report: Path | None = None,
    allow_failed: bool = False,
    progress: Progress | None = None,
) -> None:
    """Show the bundle at ``path`` until SIGINT or SIGTERM.

    A bundle that failed its gates is shown with what failed; its artifacts are not run unless
    ``allow_failed``. Raises MldrError for a bundle that is damaged or, unless so, no better
    than chance, a teacher or report that does not belong to it, an unknown runtime and a port that
    cannot be had; Unavailable where a package is missing.
    """
    progress = progress or Silent()
    require_gradio()
    require_name(config.runtime)
    bundle = open_bundle(path, allow_failed=True)
    if not allow_failed:
        require_better_than_chance(bundle)
        bundle = type(bundle)(bundle.path, bundle.manifest)
    latency_report = found_report(bundle, report)
    folder_of_teacher = None if teacher is None else trained_folder(teacher)
    options = RuntimeOptions(threads=config.threads)
    with (
        listen(HOST, config.port) as listening,  # before anything slow, to fail early
        tempfile.TemporaryDirectory(prefix="mldr-demo-") as folder,
        LoadedStudent(bundle, config.runtime, options, progress) as student,
    ):
        loaded_teacher = None
        if folder_of_teacher is not None:
            loaded_teacher = load_teacher(folder_of_teacher, bundle, options)
        from .demo_page import PageContent, create_app, offline

        offline(Path(folder))
        content = PageContent(bundle, student, loaded_teacher, latency_report, config, Path(folder))
        progress.start("preparing the page", None)
        app = create_app(content)
        progress.finish()
        progress.note(f"open {url_of(listening)} in a browser (Ctrl-C stops)")
        run_app(app, listening, _GRACE)


def require_gradio() -> None:
    """Raises Unavailable when Gradio is not installed."""
    if find_spec("gradio") is None:
        raise Unavailable("the demo needs the package gradio: pip install 'gradio>=6'")
