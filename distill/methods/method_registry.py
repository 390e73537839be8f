"""Methods by name. A new one is a file in this folder: whatever `Method` it defines is found."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, create_model

from .base import Keys, Method, Pair


def _found() -> dict[str, type[Method]]:
    """The methods that the files beside this one define, in order of their names."""
    methods: dict[str, type[Method]] = {}
    for file in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if file.name == "method_registry":
            continue
        module = import_module(f".{file.name}", __package__)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Method) and "name" in vars(value):
                methods[value.name] = value
    return dict(sorted(methods.items()))


METHODS = _found()


def table_of(name: str) -> str:
    """The key of a method's table, `mldr_kd` for `mldr-kd`."""
    return name.replace("-", "_")


# `name` and one table a method, by name, with the method's defaults.
_NAME = Field(default="mldr-kd", description="`scratch` trains on labels only.")
_FIELDS: dict[str, Any] = {"name": (Literal[tuple(METHODS)], _NAME)} | {
    table_of(name): (method.keys, Field(default=method.keys(), description=f"Keys of `{name}`."))
    for name, method in METHODS.items()
}
_Keys: Any = create_model("_Keys", __config__=ConfigDict(frozen=True, extra="forbid"), **_FIELDS)


class MethodConfig(_Keys):  # type: ignore[misc]
    """Which method distills, and a table of keys for each: switching needs only the name."""

    @property
    def used(self) -> Keys:
        """The chosen method's own table."""
        config: Keys = getattr(self, table_of(self.name))
        return config


def create_method(config: MethodConfig, pair: Pair) -> Method:
    """The method of ``config`` for a pair of models.

    Raises MldrError, in one line, when the method cannot serve the pair or its data.
    """
    return METHODS[config.name](config.used, pair)


def needs_teacher(config: MethodConfig) -> bool:
    """Whether the method looks at a teacher at all."""
    return METHODS[config.name].needs_teacher
