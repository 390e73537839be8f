"""What each precision may deviate, unless a recipe says otherwise (docs/design.md, Parity)."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, create_model

from ..bundle.parity import Gate
from ..bundle.precisions import PRECISIONS, precision_named

_FIELDS: dict[str, Any] = {
    row.computes_in: (Gate, Field(default=Gate(**row.gate), description=f"{row.computes_in}."))
    for row in PRECISIONS.values()
}
_Fields: Any = create_model(
    "_Fields", __config__=ConfigDict(frozen=True, extra="forbid"), **_FIELDS
)


class Gates(_Fields):  # type: ignore[misc]
    """One gate per precision. An artifact is held against the one that it computes in."""

    def of(self, precision: str) -> Gate:
        """The gate of ``precision``; `int8-symmetric` has that of `int8`."""
        gate = getattr(self, precision_named(precision).computes_in)
        assert isinstance(gate, Gate)
        return gate
