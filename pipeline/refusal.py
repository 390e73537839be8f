"""A recipe that does not validate, in one line: the key's full name, the value, what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def describe(error: ValidationError, root: type[BaseModel]) -> str:
    """The first failure in full, and how many more there are."""
    failures = error.errors(include_url=False)
    first = failures[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path) or "recipe"
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}; {_allowed_keys(root, path)}{more}"
    if first["type"] == "missing":
        return f"{key} is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    if not path:
        return f"{message}{more}"
    return f"{key} = {first['input']!r} is not allowed: {message[:1].lower()}{message[1:]}{more}"


def _allowed_keys(root: type[BaseModel], path: list[str]) -> str:
    owner = _owner(root, path[:-1])
    if owner is None:
        return "remove it"
    names = list(owner.model_fields)
    near = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}allowed there: {', '.join(names)}"


def _owner(model: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    """The config class that the table at ``path`` belongs to."""
    for part in path:
        field = model.model_fields.get(part)
        inner = None if field is None else _model_in(field.annotation)
        if inner is None:
            return None
        model = inner
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
