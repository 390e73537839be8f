"""What a request of the protocol may ask for beside its tensors: every name has a decision.

Honoured: ``binary_data_output`` and ``timeout`` of the request, ``binary_data_size`` of the input,
``binary_data`` and ``classification`` of the output. ``priority`` and ``sequence_*`` are taken with
the values that mean "none". All else is refused by name: an answer that passes over what was asked
for is wrong without a word.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .request_refusal import malformed

_SHARED_MEMORY = "tensors are not passed through shared memory"
# Name -> why it is not done. Clients send 0, "" or false where they do not mean it.
_UNSUPPORTED = {
    "priority": "all requests wait in one queue",
    "sequence_id": "the model keeps nothing between requests",
    "sequence_start": "the model keeps nothing between requests",
    "sequence_end": "the model keeps nothing between requests",
    "shared_memory_region": _SHARED_MEMORY,
    "shared_memory_byte_size": _SHARED_MEMORY,
    "shared_memory_offset": _SHARED_MEMORY,
}


def require_fields(holder: dict[str, Any], names: Collection[str], subject: str) -> None:
    """Raises RequestRefusal (400) for a field of ``holder`` that is not in ``names``."""
    for name in holder:
        if name not in names:
            fields = ", ".join(sorted(names))
            raise malformed(f"{subject} has no field {name[:40]!r}: it has {fields}")


def parameters_of(holder: dict[str, Any], names: tuple[str, ...], subject: str) -> dict[str, Any]:
    """``parameters`` of ``holder``, all of them in ``names``. Raises RequestRefusal (400)."""
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise malformed("parameters must be an object")
    for name, value in parameters.items():
        if name in names or (name in _UNSUPPORTED and not value):
            continue
        reason = _UNSUPPORTED.get(name, f"{subject} takes {', '.join(names)}")
        raise malformed(f"parameter {name[:40]!r} of {subject} is not supported: {reason}")
    return parameters


def flag(parameters: dict[str, Any], name: str) -> bool | None:
    """A parameter that is true or false; None: not there. Raises RequestRefusal (400)."""
    value = parameters.get(name)
    if value is not None and type(value) is not bool:
        raise malformed(f"parameter {name!r} must be true or false")
    return value


def whole_number(parameters: dict[str, Any], name: str) -> int:
    """A parameter that counts something; 0: not there. Raises RequestRefusal (400)."""
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise malformed(f"parameter {name!r} must be a whole number, 0 or more")
    return value
