"""What the documentation points at is there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:\w+/)+\w+\.(?:py|toml|md))`")
CITATION = re.compile(r"docs/design\.md, section\s+(?:# )?(\w+)")


def committed(pattern: str) -> list[Path]:
    """Files of the checkout whose names match; a folder without git is searched as it is."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", pattern]
    listing = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if listing.returncode:
        return [path for path in ROOT.rglob(pattern) if ".venv" not in path.parts]
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def without_code(text: str) -> str:
    """Markdown without its code: fenced, indented by four, and between backticks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """What GitHub lets a link point at inside a page: its headings, in small letters."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


def broken_links(page: Path) -> Iterator[str]:
    """Relative links of a page to a file, or a heading, that is not there."""
    for target in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        destination = (page.parent / file).resolve() if file else page
        missing_anchor = anchor and destination.is_file() and anchor not in anchors(destination)
        if not destination.exists() or missing_anchor:
            yield target


def test_every_relative_link_leads_somewhere() -> None:
    pages = committed("*.md")
    assert len(pages) > 10
    broken = {str(page.relative_to(ROOT)): [*broken_links(page)] for page in pages}
    assert {page: targets for page, targets in broken.items() if targets} == {}


def test_every_file_of_ours_that_a_page_names_is_there() -> None:
    missing = {
        f"{page.relative_to(ROOT)}: {name}"
        for page in committed("*.md")
        for name in FILE.findall(page.read_text(encoding="utf-8"))
        if (ROOT / name.partition("/")[0]).is_dir() and not (ROOT / name).is_file()
    }
    assert missing == set()


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("[a](there.md) ![b](there.md#the-heading)", []),
        ("[a](https://example.org/x.md)", []),
        ("`[a](code.md)`\n\n    [a](code.md)\n", []),
        ("[a](gone.md)", ["gone.md"]),
        ("[a](there.md#another)", ["there.md#another"]),
        ("[a](#own)\n\n## Own\n", []),
        ("[a](#other)", ["#other"]),
    ],
)
def test_a_broken_link_is_seen(tmp_path: Path, text: str, targets: list[str]) -> None:
    (tmp_path / "there.md").write_text("# There\n\n## The heading\n", encoding="utf-8")
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    assert [*broken_links(tmp_path / "page.md")] == targets


def test_every_section_that_code_cites_is_there() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (.*)$", design, flags=re.MULTILINE))
    cited = {
        section: path.name
        for path in committed("*.py")
        if path != Path(__file__)
        for section in CITATION.findall(path.read_text(encoding="utf-8"))
    }
    assert len(cited) > 5
    assert set(cited) <= sections, cited
