"""Write the fields in docs/latency-report.md from the classes; --check only says if it is new."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from mldr_deploy.profiler.report import Report

from generated import write_or_check

TARGET = Path(__file__).resolve().parents[1] / "docs" / "latency-report.md"
FIELDS = "## Fields\n"  # what follows it in the page is written here


def records(kind: type[BaseModel], seen: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """``kind`` and every class of ours that its fields hold, in the order met."""
    if kind not in seen:
        seen.append(kind)
        for field in kind.model_fields.values():
            for inner in held(field.annotation):
                records(inner, seen)
    return seen


def held(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from held(inner)


def written(kind: type[BaseModel]) -> Iterator[str]:
    yield f"\n### {kind.__name__}\n\n{(kind.__doc__ or '').strip()}\n"
    yield "\n| field | type | meaning |\n| --- | --- | --- |\n"
    for name, field in kind.model_fields.items():
        annotation = field.annotation
        plain = isinstance(annotation, type) and not get_args(annotation)
        shown = annotation.__name__ if plain else str(annotation)
        shown = shown.replace("mldr_deploy.profiler.", "").replace("typing.", "")
        for module in ("report.", "percentiles.", "config."):
            shown = shown.replace(module, "")
        shown = re.sub(r"Annotated\[(\w+), FieldInfo\([^\]]*\]\)\]", r"\1", shown)
        shown = shown.replace("NoneType", "None").replace("|", "\\|")
        yield f"| `{name}` | `{shown}` | {field.description} |\n"


def page() -> str:
    told, there, _ = TARGET.read_text(encoding="utf-8").partition(FIELDS)
    if not there:
        sys.exit(f"{TARGET} has no line {FIELDS!r}")
    found = records(Report, [])
    return told + FIELDS + "".join(part for kind in found for part in written(kind))


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, page(), sys.argv[1:]))
