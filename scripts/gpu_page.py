"""Write docs/results/gpu.md and the status of GPUs from the archive of benchmarks/gpu/run.py.

    python scripts/gpu_page.py [gpu.zip] [--check] [--page FILE]

The archive's figures are kept in docs/results/gpu.json; without an archive the page is written from
there. The status is a line of docs/results/README.md. --page writes the page alone, elsewhere, as
the figures of a rehearsal must be.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks" / "gpu"))

from page import NOTHING, STATUS, Facts, last_line, page, software_of
from results import read_archive

from mldr_deploy.errors import MldrError

from generated import write_or_check

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "results" / "gpu.json"
PAGE = ROOT / "docs" / "results" / "gpu.md"
OVERVIEW = ROOT / "docs" / "results" / "README.md"


def published() -> Facts:
    """The figures of the last archive; none before the first."""
    return json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else NOTHING


def require_measured(facts: Facts, archive: Path) -> None:
    """Raises MldrError for figures that are of no GPU."""
    software = software_of(facts)
    if not software or software["rehearsal"]:
        raise MldrError(
            f"{archive} is of a rehearsal, or does not say of which machine it is: its figures are "
            "not for docs; name another page with --page"
        )


def shorten(facts: Facts) -> None:
    """Leave of each traceback its last line: the rest names paths of the machine."""
    for part in facts["parts"].values():
        for figures in part.get("rows", {}).values():
            if "failed" in figures:
                figures["failed"] = last_line(figures["failed"])


def with_status(overview: str, facts: Facts) -> str:
    """The overview with the lines that follow from the figures.

    Raises MldrError where one is missing.
    """
    lines = overview.split("\n")
    for target, status in STATUS.items():
        places = [n for n, line in enumerate(lines) if line.startswith(f"| {target} |")]
        if len(places) != 1:
            count = len(places)
            raise MldrError(f"{OVERVIEW} has {count} lines of a table for {target!r}, not one")
        lines[places[0]] = f"| {target} | {status(facts)} |"
    return "\n".join(lines)


def main(archive: Path | None, check: bool, elsewhere: Path | None) -> int:
    """The command; gives the exit code."""
    facts = published() if archive is None else read_archive(archive)
    if elsewhere is not None:
        return write_or_check(elsewhere, page(facts), [])
    if archive is not None:
        require_measured(facts, archive)
        shorten(facts)
        text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
        FIGURES.write_text(text, encoding="utf-8")
    mode = ["--check"] if check else []
    overview = with_status(OVERVIEW.read_text(encoding="utf-8"), facts)
    return max(write_or_check(PAGE, page(facts), mode), write_or_check(OVERVIEW, overview, mode))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path, nargs="?", help="what the run left")
    parser.add_argument("--check", action="store_true", help="only say whether all is up to date")
    parser.add_argument("--page", type=Path, help="write the page alone, into this file")
    given = parser.parse_args()
    try:
        sys.exit(main(given.archive, given.check, given.page))
    except MldrError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
