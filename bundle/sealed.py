"""JSON records that carry the SHA-256 of their own content, so that a changed bit is noticed.

The last key, ``record_sha256``, is the digest of the file as it would be without that key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic import json_bytes, write_bytes

SEAL = "record_sha256"


def digest(content: Mapping[str, Any]) -> str:
    """The SHA-256 of ``content`` (values of JSON) in its written form, hexadecimal."""
    return hashlib.sha256(json_bytes(content)).hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> str:
    """Write ``content`` with its seal, in one step; the digest. Raises MldrError as `write_bytes`."""
    seal = digest(content)
    write_bytes(path, json_bytes({**content, SEAL: seal}))
    return seal


def unsealed(data: bytes) -> tuple[dict[str, Any], str | None]:
    """The content of a record's bytes, and its digest; None: an older release wrote it, unsealed.

    Raises ValueError where it is no JSON object, or not to the byte what was written.
    """
    content = json.loads(data)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    seal = content.pop(SEAL, None)
    if seal is None:
        return content, None
    if seal != digest(content) or data != json_bytes({**content, SEAL: seal}):
        raise ValueError(f"its content is not what {SEAL} says")
    return content, seal
