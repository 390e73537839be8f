"""TOML as people's editors leave it: with a byte order mark, with CRLF, in the wrong encoding."""

from __future__ import annotations

import tomllib
from typing import Any

from ..errors import MldrError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks


def parse_toml(data: bytes, origin: str) -> dict[str, Any]:
    """The table that the bytes of a TOML file hold; ``origin`` names it in messages.

    Raises MldrError, in one line, for text that is not UTF-8 and for bad TOML.
    """
    if data.startswith(_UTF_16) or b"\0" in data:
        raise MldrError(f"{origin} is UTF-16 text, or no text at all: save it as UTF-8")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MldrError(
            f"{origin}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8: save the file as "
            "UTF-8"
        ) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MldrError(f"{origin} is not valid TOML: {error}") from error
