"""Settings that come from outside a recipe, as config objects."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import MldrError
from .recipe_error import describe

Config = TypeVar("Config", bound=BaseModel)


def validated(kind: type[Config], settings: dict[str, Any], section: str) -> Config:
    """``kind(**settings)``. Raises MldrError for the first wrong key, told as in a recipe."""
    try:
        return kind(**settings)
    except ValidationError as error:
        raise MldrError(f"{section}: {describe(error, kind)}") from None
