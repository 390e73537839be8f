"""The Latency tab: the profile report's own pictures, and a short measurement here and now."""

from __future__ import annotations

from pathlib import Path

from ..bundle.atomic import sha256
from ..bundle.manifest import FILE as MANIFEST
from ..bundle.progress import Progress
from ..bundle.reader import Bundle
from ..errors import MldrError
from ..profiler.page.page import sections
from ..profiler.profile_config import ProfileConfig
from ..profiler.profiler import profile
from ..profiler.report import FILE as REPORT
from ..profiler.report import Report, read_report
from .html import notice

_USUAL = Path("latency")  # where `mldr-deploy profile` writes unless told otherwise
# Short enough to wait for; `mldr-deploy profile` measures longer, more batches, arrivals, layers.
HERE = ProfileConfig(
    batches=(1, 8),
    rounds=3,
    seconds=0.9,
    iterations=60,
    warm_up_seconds=1.0,
    loads=(),
    layers=False,
)


def found_report(bundle: Bundle, given: Path | None) -> Report | None:
    """The report in ``given``, else the one that `profile` left in its usual places, if it is of
    this very bundle. Raises MldrError for a given one that is missing or of another bundle."""
    if given is not None:
        report = read_report(given)
        if not _of(report, bundle):
            raise MldrError(
                f"--report {given} is of another bundle ({report.subject.name}, "
                f"{report.subject.model}): profile {bundle.path} again"
            )
        return report
    for folder in (bundle.path.parent / _USUAL, _USUAL):
        if (folder / REPORT).is_file():
            try:
                report = read_report(folder)
            except MldrError:
                continue
            if _of(report, bundle):
                return report
    return None


def latency_page(report: Report | None, bundle: Bundle) -> str:
    """The pictures of ``report``, or how to get one."""
    if report is None:
        return notice(
            "No latency report of this bundle yet. Measure it here and now with the button above, "
            f"or thoroughly: mldr-deploy profile {bundle.path.name} --out latency"
        )
    return f'<div class="md-report">{sections(report)}</div>'


def measured_here(bundle: Bundle, runtime: str, threads: int, progress: Progress) -> Report:
    """A short profile on this machine. Raises MldrError."""
    runtimes = () if runtime == "auto" else (runtime,)
    config = HERE.model_copy(update={"threads": threads, "runtimes": runtimes})
    return profile(bundle.path, config, allow_failed=bundle.allow_failed, progress=progress)


def _of(report: Report, bundle: Bundle) -> bool:
    return report.subject.manifest_sha256 == sha256(bundle.path / MANIFEST)
