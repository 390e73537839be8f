"""Settings of a process before it loads a library: file names, number of threads."""

from __future__ import annotations

import os
import sys

from ..bundle.processor import cores


def require_utf8_names() -> None:
    """Start this command anew in Python's UTF-8 mode where it could only name files in ASCII.

    That is so under LC_ALL=C with PYTHONUTF8=0. What is printed keeps its encoding.
    """
    if sys.getfilesystemencoding() != "ascii":
        return
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def respect_quota() -> None:
    """Let libraries start no more threads than a CPU quota grants; by themselves they see cores.

    Leaves what OMP_NUM_THREADS says already.
    """
    available = cores()
    if available.usable < available.bound:
        os.environ.setdefault("OMP_NUM_THREADS", str(available.usable))
