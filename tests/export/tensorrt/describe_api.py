"""Print the public API of a TensorRT module as JSON: run in a process of its own.

    python describe_api.py MODULE

pybind11 keeps no signatures, but writes them into docstrings, one line an overload:
``create_network(self: m.Builder, flags: typing.SupportsInt = 0) -> m.INetworkDefinition``.
A plain Python class (the double) is described from its signatures instead.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from typing import Any

Overload = dict[str, Any]  # {"params": [[name, required], ...], "returns": class name or None}


def describe(module: Any) -> dict[str, Any]:
    classes: dict[str, Any] = {}
    names = {}
    for name in dir(module):
        value = getattr(module, name)
        if inspect.isclass(value):
            _describe_class(name, value, classes)
        if not name.startswith("_") or name == "__version__":
            names[name] = "class" if inspect.isclass(value) else "value"
    return {"version": module.__version__, "names": names, "classes": classes}


def _describe_class(path: str, kind: type, classes: dict[str, Any]) -> None:
    found: dict[str, Any] = {}
    members = getattr(kind, "__members__", {})
    for name in dir(kind):
        if name.startswith("_") and name != "__init__":
            continue
        value = inspect.getattr_static(kind, name)
        if name in members:
            found[name] = {"kind": "member"}
        elif inspect.isclass(value):
            found[name] = {"kind": "class"}
            if value is not kind and path.count(".") < 1:
                _describe_class(f"{path}.{name}", value, classes)
        elif isinstance(value, property):
            returns = _returned((value.fget.__doc__ or "") if value.fget else "")
            settable = value.fset is not None
            found[name] = {"kind": "property", "settable": settable, "returns": returns}
        elif callable(getattr(kind, name)):
            found[name] = {"kind": "method", "overloads": _overloads(getattr(kind, name), name)}
        else:
            found[name] = {"kind": "value"}
    classes[path] = found


def _overloads(method: Any, name: str) -> list[Overload]:
    text = method.__doc__ or ""
    lines = [re.sub(r"^\d+\. ", "", line.strip()) for line in text.splitlines()]
    listed = [line for line in lines if line.startswith(f"{name}(self: ")]
    if listed:
        return [_parsed(line) for line in listed]
    try:
        parameters = [*inspect.signature(method).parameters.values()][1:]
    except (TypeError, ValueError):
        return []
    params = [[p.name, p.default is p.empty] for p in parameters]
    return [{"params": params, "returns": None}]


def _parsed(line: str) -> Overload:
    """One signature line; brackets and the reprs of defaults may hold commas."""
    inside, depth, parts, start = line.index("(") + 1, 0, [], line.index("(") + 1
    end = inside
    for k in range(inside, len(line)):
        if line[k] in "([{<":
            depth += 1
        elif line[k] in ")]}>" and line[k - 1] != "-":
            if depth == 0:
                end = k
                break
            depth -= 1
        elif line[k] == "," and depth == 0:
            parts.append(line[start:k])
            start = k + 1
    parts.append(line[start:end])
    params = []
    for part in parts[1:]:
        params.append([re.split(r"[:=]", part.strip(), maxsplit=1)[0].strip(), "=" not in part])
    return {"params": params, "returns": _returned(line[end:])}


def _returned(text: str) -> str | None:
    found = re.search(r"->\s*([\w.:]+)", text)
    return re.split(r"\.|::", found.group(1))[-1] if found else None


if __name__ == "__main__":
    json.dump(describe(importlib.import_module(sys.argv[1])), sys.stdout)
