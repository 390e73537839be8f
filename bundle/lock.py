"""Locks between processes, as far as the file system has them."""

from __future__ import annotations

import errno
import fcntl
from typing import IO

_LOCKED_ERRORS = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def lock(file: IO[bytes], *, wait: bool = False) -> bool:
    """Lock the open ``file`` until it is closed; False where another process holds it.

    Some mounted volumes (network shares, folders of a virtual machine's host) have no locks: there
    the answer is True, and two processes at once are the caller's to avoid.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return error.errno not in _LOCKED_ERRORS
    return True
