"""The two ways in which a command may fail as expected; anything else that escapes is a bug.

A message is one line: what was wrong, where, and what mends it. The command line prints it as
``Error: <message>`` without a traceback and exits with the class's ``exit_code``.
"""

from __future__ import annotations

from typing import ClassVar


class MldrError(Exception):
    """What was asked for cannot be done as asked: bad input, a failed gate, a damaged file."""

    exit_code: ClassVar[int] = 1


class Unavailable(MldrError):
    """The environment lacks something: a GPU, an optional package, a download."""

    exit_code: ClassVar[int] = 2
