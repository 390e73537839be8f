"""The work of `mldr-deploy profile`: from options to a report on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..bundle.atomic import require_folder
from ..bundle.progress import Progress
from ..errors import MldrError
from .profile_config import ProfileConfig
from .profiler import profile
from .report import FILE, Report
from .report_files import write_report


def profile_in(
    bundle: Path,
    out: Path | None,
    settings: dict[str, Any],
    *,
    allow_failed: bool,
    progress: Progress,
) -> Report:
    """Profile ``bundle``; the report, written into ``out`` too unless that is None."""
    config = profile_config(settings)
    if out is not None:
        require_folder(out, replaces=FILE)
    report = profile(bundle, config, allow_failed=allow_failed, progress=progress)
    if out is not None:
        write_report(report, out)
    return report


def profile_config(settings: dict[str, Any]) -> ProfileConfig:
    """The options of a profile. Raises MldrError for a value that is none."""
    try:
        return ProfileConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        raise MldrError(f"{location}: {first['msg']} (got {first['input']!r})") from None
