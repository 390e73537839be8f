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
SHORT_PROFILE = ProfileConfig(
    batches=(1, 8),
    rounds=3,
    seconds=0.9,
    iterations=60,
    warm_up_seconds=1.0,
    loads=(),
    layers=False,
)


def found_report(bundle: Bundle, path: Path | None) -> Report | None:
    """The report in ``path``; for None, that of this bundle in one of the usual places, if any.

    Raises MldrError where the report in ``path`` is missing or of another bundle.
    """
    if path is not None:
        report = read_report(path)
        if not _of(report, bundle):
            raise MldrError(
                f"--report {path} is of another bundle ({report.subject.name}, "
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
    config = SHORT_PROFILE.model_copy(update={"threads": threads, "runtimes": runtimes})
    return profile(bundle.path, config, allow_failed=bundle.allow_failed, progress=progress)


def _of(report: Report, bundle: Bundle) -> bool:
    return report.subject.manifest_sha256 == sha256(bundle.path / MANIFEST)
