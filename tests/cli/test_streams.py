"""Printing ends no job: in every encoding, to a reader that left, to a full disk, to nobody."""

from __future__ import annotations

import encodings.aliases
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from mldr_deploy.bundle.atomic import write_json
from mldr_deploy.cli.streams import dependable_streams

ROOT = Path(__file__).resolve().parents[2]
TEXT = "── ━━ │ … ± · ✓ é Ж 語 😀 \udcff \ud800 end"


def text_encodings() -> list[str]:
    """Every codec of Python that may stand in PYTHONIOENCODING: it takes a plain line."""
    usable = []
    for name in sorted(set(encodings.aliases.aliases.values())):
        try:
            io.TextIOWrapper(io.BytesIO(), encoding=name).write("plain\n")
        except (LookupError, UnicodeError):
            continue
        usable.append(name)
    return usable


def printed(encoding: str, text: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What arrives when ``text`` is printed to a strict stream of that encoding."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    with dependable_streams():
        print(text)
    return raw.getvalue()


@pytest.mark.parametrize("encoding", text_encodings())
def test_every_encoding_takes_every_letter(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(text_encodings()) > 80
    arrived = printed(encoding, TEXT, monkeypatch).decode(encoding)
    assert "end" in arrived
    assert "\N{REPLACEMENT CHARACTER}" not in arrived


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", r"-- -- | ... +- . \u2713 \xe9 \u0416 \u8a9e \U0001f600 \xff \ud800 end"),
        ("latin-1", r"-- -- | ... ± · \u2713 é \u0416 \u8a9e \U0001f600 \xff \ud800 end"),
        ("cp1252", r"-- -- | … ± · \u2713 é \u0416 \u8a9e \U0001f600 \xff \ud800 end"),
        ("koi8-r", r"── -- │ ... +- · \u2713 \xe9 Ж \u8a9e \U0001f600 \xff \ud800 end"),
        ("euc-jp", r"── ━━ │ … ± . \u2713 é Ж 語 \U0001f600 \xff \ud800 end"),
        ("utf-8", r"── ━━ │ … ± · ✓ é Ж 語 😀 \xff \ud800 end"),
    ],
)
def test_what_an_encoding_lacks_stays_readable(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert printed(encoding, TEXT, monkeypatch).decode(encoding) == shown + "\n"


def test_tables_keep_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    made = io.StringIO()
    table = Table("name", "top-1", box=box.SIMPLE_HEAD)
    table.add_row("student", "98.10")
    Console(file=made, width=40).print(table)
    lines = printed("cp1252", made.getvalue(), monkeypatch).decode("cp1252").splitlines()
    assert {len(line) for line in lines if "-" * 5 in line} == {len(made.getvalue().split("\n")[2])}


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """``script`` in bash, with ``mldr`` for the command; fails where it takes over a minute."""
    command = f'mldr() {{ {shlex.quote(sys.executable)} -m mldr_deploy "$@"; }}\n{script}'
    settings = {"PYTHONPATH": str(ROOT / ".src"), "PYTHONUTF8": "", **environment}
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, check=False, env=os.environ | settings
    )


@pytest.mark.parametrize(
    ("script", "code", "told"),
    [
        ("mldr --help > /dev/full", 1, b"standard output takes nothing more (No space left"),
        ("mldr --help 2> /dev/full", 0, b""),
        ("mldr --help >&-", 0, b""),
        ("mldr check nowhere 2> /dev/full", 1, b""),
        ("mldr check nowhere 2>&-", 1, b""),
        ("mldr check nowhere >&- 2>&- <&-", 1, b""),
        ("set -o pipefail; mldr --help | true", 0, b""),
        ("mldr check nowhere 2>&1 | true; exit ${PIPESTATUS[0]}", 1, b""),
    ],
)
def test_an_output_that_takes_nothing_changes_no_exit_code(
    script: str, code: int, told: bytes
) -> None:
    done = shell(script)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
    assert told in done.stderr
    assert done.stderr.count(b"\n") == bool(told)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "euc-jp"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8"},
    ],
    ids=lambda environment: " ".join(environment.values()),
)
def test_any_path_is_told_in_any_environment(environment: dict[str, str]) -> None:
    done = shell(r"""mldr check $'/nowhere/\xff/Z\xc3\xbcrich/─'""", **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: /nowhere/\\xff/Z") and b"manifest" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_closed_output_s_number_goes_to_no_file(tmp_path: Path) -> None:
    """With standard error closed, the next file would be number 2, and warnings written into it."""
    program = (
        "import os, sys\n"
        "from mldr_deploy.cli.streams import dependable_streams\n"
        "with dependable_streams():\n"
        f"    with open({str(tmp_path / 'weights')!r}, 'wb') as file:\n"
        "        file.write(b'weights')\n"
        "        os.write(2, b'a warning from C')\n"
        "        print('one from Python', file=sys.stderr)\n"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} >&- 2>&- <&-"
    done = subprocess.run(
        ["bash", "-c", command], env=os.environ | {"PYTHONPATH": str(ROOT / ".src")}, check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "weights").read_bytes() == b"weights"


def test_names_that_are_not_utf_8_come_back_from_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"bundle": "run\udcff/Zürich"})
    assert "Zürich" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"bundle": "run\udcff/Zürich"}
