"""Every fault of the catalogue and every healthy export: who notices, and what the user is told.

    PYTHONPATH=.src python benchmarks/faults.py [--only PATTERN] [--work FOLDER] [--healthy]

Trains the small students of tests/export/faults, exports them once, breaks copies of them one fault
at a time and reads what `export` or `check` says. With --healthy, exports students of many
architectures, seeds, image sizes and precisions, none of which may raise an alarm. The last line is
JSON. docs/results/faults.md is made of its output.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

from mldr_deploy.tests.export.faults.catalogue import CATALOGUE
from mldr_deploy.tests.export.faults.fault import Fault
from mldr_deploy.tests.export.faults.harness import Case
from mldr_deploy.tests.export.faults.healthy import HEALTHY, alarms
from mldr_deploy.tests.export.faults.subjects import SUBJECTS, Recipe, train

_SHOWN = 420  # characters of an alarm


def main(pattern: str, work: Path, healthy: bool) -> None:
    """Both tables and the JSON line."""
    print("| fault | student | gate | what is said |\n| --- | --- | --- | --- |")
    chosen = [fault for fault in CATALOGUE if re.search(pattern, fault.name)]
    caught = [_told(fault, case) for fault, case in _cases(chosen, work)]
    print(f"{sum(caught)}/{len(caught)} faults caught")
    if healthy:
        print("| healthy export | verdict | figures |\n| --- | --- | --- |")
    recipes = [recipe for recipe in HEALTHY if healthy and re.search(pattern, recipe.name)]
    false = [_judged(recipe, work) for recipe in recipes]
    if recipes:
        print(f"{sum(false)}/{len(false)} false alarms")
    missed = [fault.name for fault, seen in zip(chosen, caught, strict=True) if not seen]
    result = {"faults": len(caught), "caught": sum(caught), "missed": missed}
    print(json.dumps({**result, "healthy": len(false), "false_alarms": sum(false)}))


def _cases(faults: list[Fault], work: Path) -> list[tuple[Fault, Case]]:
    subjects = {}
    for name in dict.fromkeys(fault.subject for fault in faults):
        subject = train(SUBJECTS[name], work / name / "run")
        subjects[name] = subject, subject.exported(work / name / "bundle")
    return [
        (fault, Case(*subjects[fault.subject], Path(tempfile.mkdtemp(dir=work))))
        for fault in faults
    ]


def _told(fault: Fault, case: Case) -> bool:
    """Whether the fault was noticed and its place told."""
    alarm = fault.inject(case).alarm.replace(f"{case.scratch}/", "")
    unsaid = [part for part in fault.says if not re.search(part, alarm)]
    verdict = "**missed**" if not alarm else f"**place not told: {unsaid}**" if unsaid else ""
    shown = alarm if len(alarm) <= _SHOWN else alarm[: _SHOWN - 3] + "..."
    _row(fault.name, fault.subject, fault.gate, verdict + shown)
    return not verdict


def _judged(recipe: Recipe, work: Path) -> bool:
    """Whether a healthy export raised an alarm."""
    told = alarms(recipe, work / recipe.name)
    _row(recipe.name, "; ".join(told.alarms) or "no alarm", told.figures)
    return bool(told.alarms)


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="names that match")
    parser.add_argument("--work", type=Path, help="folder to keep what is trained and exported")
    parser.add_argument("--healthy", action="store_true", help="the healthy exports too")
    given = parser.parse_args()
    folder = given.work or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    main(given.only, folder, given.healthy)
