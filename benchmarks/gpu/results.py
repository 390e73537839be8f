"""What a run leaves: a folder of plain files, and one archive of it, written anew as it grows.

FOLDER/parts/NAME/rows.jsonl    a line a case: its figures, or the traceback of its failure
FOLDER/parts/NAME/state.json    running, done, failed, timed out or skipped; seconds, limit, why
FOLDER/parts/NAME/output.txt    what it printed; clocks.csv: the card's clocks meanwhile
FOLDER/run.json                 which card they are of, or that it is a rehearsal
FOLDER/comparison/              the comparison's folder

The archive is a zip of all but weights. It is replaced in one step, so that it can be read at any
moment, also after a kill.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from mldr_deploy.bundle.atomic import write_bytes, write_json
from mldr_deploy.errors import MldrError

Row = dict[str, Any]
_KEPT = {".json", ".jsonl", ".txt", ".csv", ".md", ".png", ".toml", ".log"}
_KEPT_NAMES = {"test.safetensors"}  # the test answers, which the statistics are made of
_LARGEST = 2**20  # bytes of a file that the archive takes; of a longer text its end


class Part:
    """The figures of one part of a step."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows_file = folder, folder / "rows.jsonl"

    @property
    def rows(self) -> dict[str, Row]:
        """By case, the last of each; a line that a kill cut off does not count."""
        return rows_of(self.rows_file.read_bytes()) if self.rows_file.is_file() else {}

    @property
    def state(self) -> Row:
        """How it went; empty before it began."""
        path = self.folder / "state.json"
        state: Row = json.loads(path.read_text()) if path.is_file() else {}
        return state

    def set_state(self, state: str, **details: Any) -> None:
        """Write state.json."""
        write_json(self.folder / "state.json", {"state": state, **details})

    def begin(self) -> None:
        """Make the folder and keep the rows that worked out, so that only the rest is done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {case: row for case, row in self.rows.items() if "failed" not in row}
        write_bytes(self.rows_file, "".join(_line(*item) for item in kept.items()).encode())

    def write(self, case: str, row: Row) -> None:
        """One more case is done."""
        with self.rows_file.open("a") as file:
            file.write(_line(case, row))


class Results:
    """The folder and its archive."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.folder, self.archive = folder, archive
        self._archived: list[tuple[str, int, int]] = []

    def part(self, name: str) -> Part:
        """The part called ``name``."""
        return Part(self.folder / "parts" / name)

    @property
    def comparison(self) -> Path:
        """Where the comparison's runs lie."""
        return self.folder / "comparison"

    def require_same(self, stamp: Row) -> None:
        """Note what the figures are of: a card, or a rehearsal.

        Raises MldrError where the folder holds figures of something else: they must not mix.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "run.json"
        if not path.is_file():
            write_json(path, stamp)
        elif (there := json.loads(path.read_text())) != stamp:
            raise MldrError(
                f"{self.folder} holds figures of {_told(there)}, not of {_told(stamp)}: name "
                "another --folder, or delete that one"
            )

    def save(self) -> None:
        """Write the archive where something has changed. Raises MldrError where it cannot."""
        kept = _kept(self.folder)
        now = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in kept]
        if now == self._archived and self.archive.is_file():
            return
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, _ in kept:
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    content = path.read_bytes()[-_LARGEST:]
                    archive.writestr(path.relative_to(self.folder).as_posix(), content)
        write_bytes(self.archive, buffer.getvalue())
        self._archived = now


def rows_of(lines: bytes) -> dict[str, Row]:
    """By case the last of the rows in ``lines``; a last line without its end is left out."""
    whole = lines[: lines.rfind(b"\n") + 1].decode()
    rows: list[Row] = [json.loads(line) for line in whole.splitlines()]
    return {row.pop("case"): row for row in rows}


def _line(case: str, row: Row) -> str:
    return json.dumps({"case": case, **row}) + "\n"


def read_archive(path: Path) -> dict[str, Any]:
    """{"parts": {name: {"state", "rows"}}, "comparison": results.json or None} of an archive.

    Raises MldrError for a file that is not such an archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise MldrError(f"{path} cannot be read as the archive of a run: {error}") from error
    parts: dict[str, Any] = {}
    for name, content in files.items():
        match name.split("/"):
            case ["parts", part, "state.json"]:
                parts.setdefault(part, {})["state"] = json.loads(content)
            case ["parts", part, "rows.jsonl"]:
                parts.setdefault(part, {})["rows"] = rows_of(content)
            case ["parts", part, "clocks.csv"]:
                parts.setdefault(part, {})["clocks"] = clock_range(content.decode())
    if not parts:
        raise MldrError(f"{path} holds no parts of a run: give what benchmarks/gpu/run.py wrote")
    table = files.get("comparison/results.json")
    return {"parts": parts, "comparison": table and json.loads(table)}


def _told(stamp: Row) -> str:
    return "a rehearsal" if stamp["rehearsal"] else f"a {stamp['card']}"


def clock_range(table: str) -> str:
    """The least and largest of the first column of clocks.csv, in its unit."""
    values = [line.split(",")[0].strip() for line in table.splitlines()[1:]]
    numbers = sorted(int(value.split()[0]) for value in values if value[:1].isdigit())
    return f"{numbers[0]} to {numbers[-1]} MHz" if numbers else "-"


def _kept(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Files for the archive, in order; runs at work may take some away at any moment."""
    files = []
    for base, _, names in os.walk(folder):
        for path in (Path(base) / name for name in names):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.name in _KEPT_NAMES and stat.st_size > _LARGEST:
                    continue
                if path.name in _KEPT_NAMES or path.suffix in _KEPT:
                    files.append((path, stat))
    return sorted(files, key=lambda file: file[0])
