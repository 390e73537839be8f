"""Text files are read and written as UTF-8, whatever the locale's encoding is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def left_to_the_locale(source: str) -> Iterator[int]:
    """Lines that read or write text, or what a program prints, in no stated encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg for keyword in node.keywords}
        if "encoding" not in given and (_is_file(node) or "text" in given):
            yield node.lineno


def _is_file(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(attr="read_text" | "write_text"):
            return True
        case ast.Attribute(
            value=ast.Name(
                id="os"
                | "Image"
                | "tarfile"
                | "archive"
                | "MethodComparison"
                | "FeatureCache"
                | "TeacherCache"
                | "ExecutionRecord"
            )
        ):
            return False
        case ast.Name(id="open") | ast.Attribute(attr="open"):
            words = [*call.args, *(keyword.value for keyword in call.keywords)]
            modes = [word.value for word in words if isinstance(word, ast.Constant)]
            return not any(isinstance(mode, str) and "b" in mode for mode in modes)
    return False


def test_nothing_in_the_package_is_left_to_the_locale() -> None:
    folders = [init.parent for init in ROOT.glob("*/__init__.py")]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    assert len(files) > 100
    lines = {
        str(file.relative_to(ROOT)): [*left_to_the_locale(file.read_text(encoding="utf-8"))]
        for file in files
    }
    assert {file: where for file, where in lines.items() if where} == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.read_text()", [1]),
        ("path.read_text(encoding='utf-8')", []),
        ("\npath.write_text('a')", [2]),
        ("write_text(path, 'a')", []),
        ("open(name)", [1]),
        ("path.open('w')", [1]),
        ("path.open(mode='rb')", []),
        ("path.open('a', encoding='utf-8')", []),
        ("os.open(name, 0)", []),
        ("subprocess.run(command, text=True)", [1]),
        ("subprocess.run(command, text=True, encoding='utf-8')", []),
    ],
)
def test_every_form_is_seen(source: str, lines: list[int]) -> None:
    assert [*left_to_the_locale(source)] == lines
