"""A report's three forms, written into one folder."""

from __future__ import annotations

import json
from pathlib import Path

from ..bundle.atomic import atomic_folder, write_text
from .markdown import markdown
from .report import FILE, Report, as_json

PAGE = "report.html"
SUMMARY = "summary.md"


def write_report(report: Report, folder: Path) -> None:
    """``report.json``, ``report.html`` and ``summary.md``; an earlier report there is replaced.

    Raises MldrError when the folder cannot be written or holds something else.
    """
    from .page.page import page

    with atomic_folder(folder, replaces=FILE) as temporary:
        text = json.dumps(as_json(report), ensure_ascii=False, allow_nan=False)
        write_text(temporary / FILE, text + "\n")
        write_text(temporary / PAGE, page(report))
        write_text(temporary / SUMMARY, markdown(report))
