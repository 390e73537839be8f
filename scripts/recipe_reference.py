"""Write docs/recipes.md from the config classes; --check only says whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mldr_deploy.pipeline.recipe import Recipe
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from generated import write_or_check

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "recipes.md"
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
        yield f"| `{file.stem}` | {summary(file)} |\n"
    yield "\n## Keys\n"
    yield from table(Recipe, "")


def summary(recipe: Path) -> str:
    """The comment that a recipe file begins with."""
    lines = recipe.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return escape(" ".join(comment))


def table(config: type[BaseModel], prefix: str) -> Iterator[str]:
    """Keys of ``config``, then a table for each section inside it."""
    own = {name: f for name, f in config.model_fields.items() if section(f.annotation) is None}
    if prefix:
        yield f"\n### `{prefix}`\n\n{(config.__doc__ or '').strip()}\n"
    if own:
        yield "\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n"
    for name, field in own.items():
        key = f"{prefix}.{name}" if prefix else name
        cells = (f"`{key}`", allowed(field), default(field), escape(field.description or ""))
        yield f"| {' | '.join(cells)} |\n"
    for name, field in config.model_fields.items():
        inner = section(field.annotation)
        if inner is not None:
            yield from table(inner, f"{prefix}.{name}" if prefix else name)


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


def default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "(required)"
    return escape(f"`{shown(value)}`" if value is not None else "unset")


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
    sys.exit(write_or_check(TARGET, "".join(page()), sys.argv[1:]))
