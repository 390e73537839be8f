"""scripts/names.py sees every form in which Python stores a name."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "names.py"))


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "found: int",
        "a, (b, *found) = c",
        "self.found = 1",
        "for found in a: pass",
        "[a for found in b]",
        "(found := 1)",
        "with a as found: pass",
        "def found(): pass",
        "async def found(): pass",
        "class found: pass",
        "def f(found): pass",
        "def f(*, found=1): pass",
        "def f(**found): pass",
        "lambda found: 1",
        "import a as found",
        "try: pass\nexcept E as found: pass",
        "match a:\n    case [found]: pass",
        "match a:\n    case [*found]: pass",
    ],
)
def test_a_name_is_seen_however_it_is_stored(source: str) -> None:
    names = [name for _, name in SCRIPT["stored_names"](ast.parse(source))]
    assert names.count("found") == 1


@pytest.mark.parametrize("source", ["f(found)", "found.size", "f(found=1)", "del found", "found"])
def test_a_name_that_is_only_read_is_not_counted(source: str) -> None:
    assert "found" not in [name for _, name in SCRIPT["stored_names"](ast.parse(source))]


@pytest.mark.parametrize(
    ("path", "name", "vague"),
    [
        ("a.py", "found", True),
        ("a.py", "_found", True),
        ("a.py", "FOUND_", True),
        ("a.py", "found_faces", False),
        ("a.py", "before", False),
        ("a.py", "left", True),
        ("data/crops.py", "left", False),
    ],
)
def test_a_whole_name_is_vague_or_not(path: str, name: str, vague: bool) -> None:
    assert SCRIPT["is_vague"](Path(path), name) is vague
