"""What people really have on their disks, and what the product makes of it.

    PYTHONPATH=.src python benchmarks/inputs.py [--only PATTERN] [--save FILE] [--before FILE]

Every situation makes its own small input in an empty folder, tries it, and says in one line what
happened; `right` is what must be said. --save keeps the lines, and --before shows those of another
checkout beside them (run there with PYTHONPATH of that checkout). docs/results/inputs.md is made of
its output. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import traceback
from pathlib import Path

import inputs_commands
import inputs_folders
import inputs_pictures
import inputs_service
import inputs_teachers
from inputs_situation import Situation

SITUATIONS: list[Situation] = [
    *inputs_pictures.SITUATIONS,
    *inputs_folders.SITUATIONS,
    *inputs_teachers.SITUATIONS,
    *inputs_service.SITUATIONS,
    *inputs_commands.SITUATIONS,
]
_SHOWN = 300  # characters of an outcome in the table


def outcome(situation: Situation) -> str:
    """What happened, in one line."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path.cwd()
        os.chdir(folder)
        try:
            said = situation.probe()
        except Exception as error:  # an unexpected failure is a result too
            said = f"{type(error).__name__}: {error}".partition("\n")[0]
            if not type(error).__module__.startswith("mldr_deploy"):
                said += f" ({traceback.extract_tb(error.__traceback__)[-1].name})"
        finally:
            os.chdir(home)
    return " ".join(said.replace(f"{folder}/", "").split())


def row(situation: Situation, before: str | None, after: str) -> str:
    """One line of the table; what is not right is marked."""
    cells = [situation.kind, situation.name]
    for said in (before, after):
        if said is not None:
            mark = "" if situation.holds(said) else "**wrong:** "
            cells.append(mark + (said if len(said) <= _SHOWN else said[: _SHOWN - 3] + "..."))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main(pattern: str, save: Path | None, before: dict[str, str]) -> None:
    """The table and the JSON line."""
    chosen = [s for s in SITUATIONS if re.search(pattern, f"{s.kind}: {s.name}")]
    columns = ["kind", "situation", *(["before"] if before else []), "after"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    after: dict[str, str] = {}
    for situation in chosen:
        after[situation.name] = outcome(situation)
        print(
            row(
                situation,
                before.get(situation.name, "not tried") if before else None,
                after[situation.name],
            ),
            flush=True,
        )
    if save is not None:
        save.write_text(json.dumps(after, indent=1), encoding="utf-8")
    right = sum(s.holds(after[s.name]) for s in chosen)
    earlier = sum(s.holds(before.get(s.name, "")) for s in chosen) if before else None
    print(json.dumps({"situations": len(chosen), "right": right, "right_before": earlier}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="kinds and names that match")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the outcomes as JSON")
    parser.add_argument("--before", type=Path, metavar="FILE", help="outcomes to show beside")
    given = parser.parse_args()
    earlier = json.loads(given.before.read_text(encoding="utf-8")) if given.before else {}
    main(given.only, given.save, earlier)
