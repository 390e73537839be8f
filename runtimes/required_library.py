"""A library that an extra of ours brings, or one sentence that says how to get it."""

from __future__ import annotations

from importlib import import_module

from ..errors import Unavailable
from .runtime import one_line


def require_library(name: str, module: str, extra: str) -> None:
    """Raises Unavailable where ``module`` of the library ``name`` is missing, or does not load."""
    try:
        import_module(module)
    except (ImportError, OSError) as error:
        raise Unavailable(
            f'{name} is not there ({one_line(error)}): pip install "mldr-deploy[{extra}]"'
        ) from error
