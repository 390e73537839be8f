"""Generated pages: write them, or say that they are out of date."""

from __future__ import annotations

import sys
from pathlib import Path


def write_or_check(target: Path, text: str, arguments: list[str]) -> int:
    """Write ``text``, or with --check compare it. Gives the exit code."""
    script = Path(sys.argv[0]).name
    if arguments == ["--check"]:
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            return 0
        print(f"{target.name} is out of date; run: python scripts/{script}", file=sys.stderr)
        return 1
    if arguments:
        print(f"usage: {script} [--check]", file=sys.stderr)
        return 2
    target.write_text(text, encoding="utf-8")
    return 0
