"""What ``--json`` prints: one object for every command (docs/json.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from ..bundle.manifest import SCHEMA_VERSION
from ..bundle.reader import Bundle


def json_form(command: str, result: Any, *, passed: bool) -> str:
    """The object of ``command`` as indented ASCII JSON; ``passed`` says whether all gates held."""
    envelope = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "passed": passed,
        "result": plain(result),
    }
    return json.dumps(envelope, indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """``value`` in JSON's types: records by their fields, a bundle by its path and manifest.

    What is not finite becomes null.
    """
    if isinstance(value, Bundle):
        return {"path": str(value.path), "manifest": plain(value.manifest)}
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    for form in ("as_json", "as_dict"):
        if hasattr(value, form):
            return plain(getattr(value, form)())
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
