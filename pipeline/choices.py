"""What the command line and Python leave out of a recipe: the recipe itself, the kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import MldrError

_OWN = ("folder:", "parquet:", "csv:", "hf:")


def default_recipe(source: str | None) -> str:
    """`photos` for pictures of the user's own, else `digits`."""
    return "photos" if (source or "").startswith(_OWN) else "digits"


def source_of(value: str) -> str:
    """A path by itself is a folder of pictures or a table of them; everything else as it is."""
    path = Path(value)
    if path.is_dir() and not value.startswith(_OWN):
        return f"folder:{value}"
    kind = path.suffix.lower().removeprefix(".")
    return f"{kind}:{value}" if kind in ("parquet", "csv") and path.is_file() else value


def overrides(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``KEY=VALUE`` for `load_recipe`, of values by dotted key or in tables within tables.

    Raises MldrError for a value that TOML does not have.
    """
    lines: list[str] = []
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and not key.endswith("options"):
            lines += overrides(value, f"{key}.")
        else:
            lines.append(f"{key}={_toml(key, value)}")
    return lines


def _toml(key: str, value: Any) -> str:
    if value is None:
        return "none"
    plain = str(value) if isinstance(value, Path) else value
    if isinstance(plain, Mapping):
        pairs = ", ".join(f"{_quoted(name)} = {_toml(key, item)}" for name, item in plain.items())
        return f"{{ {pairs} }}"
    import tomli_w  # here: the command line imports this file, and `serve` does without it

    try:
        return tomli_w.dumps({"value": plain}).partition("=")[2].strip()
    except TypeError:
        raise MldrError(
            f"{key}: {type(value).__name__} is no value of a recipe: give text, a number, True or "
            "False, or a list of these"
        ) from None


def _quoted(name: str) -> str:
    import tomli_w

    return tomli_w.dumps({name: 0}).rpartition("=")[0].strip()
