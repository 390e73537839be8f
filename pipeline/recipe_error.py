"""A recipe that does not validate, in one line: the key's full name, the value, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def first_key(error: ValidationError, root: type[BaseModel]) -> str:
    """The dotted key that `describe` tells of; empty where it is none of them alone."""
    return ".".join(_key(root, error.errors(include_url=False)[0]))


def describe(error: ValidationError, root: type[BaseModel]) -> str:
    """The first failure in full, and how many more there are."""
    failures: dict[tuple[str, ...], list[ErrorDetails]] = {}  # a union fails once a member
    for failure in error.errors(include_url=False):
        failures.setdefault(_key(root, failure), []).append(failure)
    path, member_failures = next(iter(failures.items()))
    first, key = member_failures[0], ".".join(path)
    further = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}; {_allowed_keys(root, path)}{further}"
    if first["type"] == "missing":
        return f"{key} is missing{further}"
    messages = [failure["msg"].removeprefix("Value error, ") for failure in member_failures]
    if not path:
        return f"{messages[0]}{further}"
    allowed = ", or ".join(f"{text[:1].lower()}{text[1:]}" for text in dict.fromkeys(messages))
    return f"{key} = {first['input']!r} is not allowed: {allowed}{further}"


def _key(root: type[BaseModel], failure: ErrorDetails) -> tuple[str, ...]:
    """The key as a recipe writes it: pydantic appends the member of a union that was tried."""
    path = failure["loc"]
    for depth in range(1, len(path)):
        if _owner(root, path[:depth]) is None:  # a value: only positions in a list lie below it
            return tuple(str(p) for i, p in enumerate(path) if i < depth or isinstance(p, int))
    return tuple(map(str, path))


def _allowed_keys(root: type[BaseModel], path: tuple[str, ...]) -> str:
    owner = _owner(root, path[:-1])
    if owner is None:
        return "remove it"
    names = list(owner.model_fields)
    near = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}allowed there: {', '.join(names)}"


def _owner(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """The config class that the table at ``path`` belongs to."""
    for part in path:
        field = model.model_fields.get(str(part))
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
