"""What is said of a model that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..errors import MldrError


def unknown_model(name: str, names: Iterable[str]) -> MldrError:
    """The refusal of ``name``, with the nearest of ``names``."""
    architecture = name.partition(".")[0].lower()
    near = difflib.get_close_matches(architecture, [*names], n=5, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}" if near else "`mldr-deploy models` lists all names"
    return MldrError(f"unknown model {name!r}; {hint}")
