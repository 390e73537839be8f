"""Standard output and error that take every text and never stop the work.

A terminal or log may have another encoding than UTF-8, the reader of a pipe may go away, a disk
may be full, a stream may be closed. None of that may end a job or hide its exit code, so it is
settled once, before a command runs, for whoever prints: print, click, rich, logging, warnings.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_READABLE = "mldr-readable"  # name of the error handler below
_PLAIN = {
    **dict.fromkeys("─━╸╺", "-"),
    **dict.fromkeys("│┃", "|"),
    "…": "...",
    "±": "+-",
    "·": ".",
}


class Outlet(io.RawIOBase):
    """Passes bytes on to ``raw``; what it does not take is dropped, and ``failure`` says why."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.name = getattr(raw, "name", None)
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            while (count := self._raw.write(data)) is None:  # a full pipe that does not block
                select.select([], [self._raw], [])
            return int(count)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def fileno(self) -> int:
        return int(self._raw.fileno())


@contextmanager
def dependable_streams() -> Iterator[Outlet | None]:
    """sys.stdout and sys.stderr as above for the length of the block; yields that of stdout.

    None where standard output is no ordinary stream, such as a notebook's; it is left as it is.
    """
    _open_closed()
    codecs.register_error(_READABLE, _readable)
    before = sys.stdout, sys.stderr
    sys.stdout, outlet = _dependable(sys.stdout)
    sys.stderr, _ = _dependable(sys.stderr)
    try:
        yield outlet
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def lost_output(outlet: Outlet | None) -> str | None:
    """Why printed text did not arrive, in one line; None where it did.

    A reader that went away, such as `head`, had enough: nothing is lost to him.
    """
    sys.stdout.flush()
    failure = None if outlet is None else outlet.failure
    if failure is None or failure.errno == errno.EPIPE:
        return None
    return (
        f"standard output takes nothing more ({failure.strerror}): what was to be printed is "
        "lost, everything else is done"
    )


def _dependable(stream: TextIO) -> tuple[TextIO, Outlet | None]:
    buffer = getattr(stream, "buffer", None)
    if not isinstance(stream, io.TextIOWrapper) or buffer is None:
        return stream, None
    stream.flush()
    outlet = Outlet(getattr(buffer, "raw", buffer))
    dependable = io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=stream.encoding,
        errors=_READABLE,
        line_buffering=stream.line_buffering or stream.write_through,
    )
    return dependable, outlet


def _open_closed() -> None:
    """Open what was closed (`>&-`): else a file would get its number, and messages go into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  a name, not a path


def _readable(error: UnicodeError) -> tuple[str, int]:
    """A codec's error handler: what an encoding lacks in plain letters, or as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
