"""Write docs/recipes.md and the keys in docs/compare.md; --check only says whether they are new."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mldr_deploy.compare.matrix import Matrix
from mldr_deploy.pipeline.recipe import Recipe

from generated import write_or_check

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "recipes.md"
COMPARISON = ROOT / "docs" / "compare.md"
KEYS = "## Keys\n"  # what follows it in docs/compare.md is written here
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
HEADER = """# Recipes

Written by `scripts/recipe_reference.py` from the config classes; do not edit.

A recipe is a TOML file that says everything about a run: which data, which teacher and student,
how they are trained, what is exported. `--recipe` takes the name of one that comes with the
package (below) or a file of your own; `--set KEY=VALUE` overrides any key, for example
`--set optimizer.lr=0.1 --set data.source=folder:photos`. Unknown keys and impossible values are
refused before anything runs. The recipe as resolved, with every default in it, is stored with
the run.

"""


def page() -> Iterator[str]:
    yield HEADER
    yield "## Recipes of the package\n\n| name | what it is |\n| --- | --- |\n"
    for file in sorted((ROOT / "distill" / "recipes").glob("*.toml")):
        described = tomllib.loads(file.read_text(encoding="utf-8"))["description"]
        yield f"| `{file.stem}` | {escape(described)} |\n"
    yield "\n## Keys\n\nA default counts where the recipe does not set the key.\n"
    tables = list(tables_of(Recipe, "", "", None))
    home: dict[type[BaseModel], Table] = {}  # where each class is written out: its shortest name
    for table in sorted(tables, key=lambda table: table.name.count(".")):
        home.setdefault(table.config, table)
    for table in tables:
        yield from written(table, home[table.config])


def comparison() -> str:
    """docs/compare.md with the keys of a comparison's file."""
    told, there, _ = COMPARISON.read_text(encoding="utf-8").partition(KEYS)
    if not there:
        sys.exit(f"{COMPARISON} has no line {KEYS!r}")
    tables = list(tables_of(Matrix, "", "", None))
    return told + KEYS + "".join(line for table in tables for line in written(table, table))


@dataclass(frozen=True)
class Table:
    """One table of a recipe file."""

    name: str  # full, with dots; empty for the recipe itself
    config: type[BaseModel]
    meaning: str
    values: BaseModel | None  # what counts where the recipe leaves the table out

    def full(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name

    def default(self, name: str) -> Any:
        field = self.config.model_fields[name]
        own = field.get_default(call_default_factory=True)
        return own if self.values is None else getattr(self.values, name)


def tables_of(
    config: type[BaseModel], name: str, meaning: str, values: BaseModel | None
) -> Iterator[Table]:
    """The table of ``config`` and every table inside it."""
    table = Table(name, config, meaning, values)
    yield table
    for key, field in config.model_fields.items():
        inner = section(field.annotation)
        if inner is not None:
            value = table.default(key)
            given = value if isinstance(value, BaseModel) else None
            yield from tables_of(inner, table.full(key), field.description or "", given)


def written(table: Table, home: Table) -> Iterator[str]:
    """One table in Markdown; only a link where the same keys are written out elsewhere."""
    fields = table.config.model_fields
    own = [name for name, field in fields.items() if section(field.annotation) is None]
    if table.name:
        yield f"\n### `{table.name}`\n\n{table.meaning}\n"
    if table.name != home.name:
        others = [name for name in own if table.default(name) != home.default(name)]
        also = "; ".join(f"`{name}` {value(table.default(name))}" for name in others)
        link = f"[`{home.name}`](#{home.name.replace('.', '').lower()})"
        yield f"\nThe keys of {link}{f', with other defaults: {also}' if also else ''}.\n"
        return
    if own:
        yield "\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n"
    for name in own:
        meaning = escape(fields[name].description or "")
        cells = (
            f"`{table.full(name)}`",
            allowed(fields[name]),
            value(table.default(name)),
            meaning,
        )
        yield f"| {' | '.join(cells)} |\n"


def section(annotation: Any) -> type[BaseModel] | None:
    """The config class that a field holds, or holds when it is not None."""
    if get_origin(annotation) in (Union, UnionType):
        inner = [section(part) for part in get_args(annotation) if part is not NoneType]
        return inner[0] if len(inner) == 1 else None
    is_config = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_config else None


def allowed(field: FieldInfo) -> str:
    """Type and bounds, in words."""
    limits = [
        f"{word} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, word in BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    return escape(", ".join([kind(field.annotation), *limits]))


def kind(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(parts[0])
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join("unset" if part is NoneType else kind(part) for part in parts)
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"{len(parts)} of {kind(parts[0])}"
    if origin in (tuple, list):
        return f"list of {kind(parts[0])}"
    if origin is dict:
        return "table"
    named = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    return named.get(annotation) or str(getattr(annotation, "__name__", annotation))


def value(default: Any) -> str:
    if default is PydanticUndefined:
        return "(required)"
    return "unset" if default is None else escape(f"`{shown(default)}`")


def shown(value: Any) -> str:
    """As TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(shown(part) for part in value)}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    pages = {TARGET: "".join(page()), COMPARISON: comparison()}
    sys.exit(max(write_or_check(path, text, sys.argv[1:]) for path, text in pages.items()))
