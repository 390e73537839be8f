"""What a library's own code prints, past Python's streams or through them, kept off the screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO


@contextmanager
def no_native_notes() -> Iterator[None]:
    """Standard error is closed to a library; whatever fails is raised all the same."""
    sys.stderr.flush()
    try:
        descriptor, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
    except OSError:  # a service without standard streams
        yield
        return
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        os.dup2(descriptor, 2)
        os.close(descriptor)
