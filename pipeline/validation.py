"""Settings to config objects: a refusal names the key, the value and what is allowed."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import MldrError

Config = TypeVar("Config", bound=BaseModel)


def validated(kind: type[Config], settings: dict[str, Any], section: str) -> Config:
    """``kind(**settings)``. Raises MldrError for the first wrong key, named ``section.key``."""
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in (section, *first["loc"]))
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(kind.model_fields)
            raise MldrError(f"{key} is not a known key; {section} has: {allowed}") from None
        raise MldrError(f"{key} = {first['input']!r}: {first['msg']}") from None
