"""JSON records that carry the SHA-256 of their own content, so that a changed bit is noticed.

The last key, ``record_sha256``, is the digest of the file as it would be without that key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic import json_bytes, write_bytes

SEAL = "record_sha256"
_ENDING = re.compile(rb',\n  "record_sha256": "([0-9a-f]{64})"\n}\n\Z')


class Altered(ValueError):
    """A record is not what its seal says."""


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` in one step, with its seal in the place of an earlier one.

    Raises MldrError where the file cannot be written.
    """
    bare = {key: value for key, value in content.items() if key != SEAL}
    write_bytes(path, json_bytes({**bare, SEAL: _sha256(json_bytes(bare))}))


def unsealed(data: bytes) -> tuple[dict[str, Any], str | None]:
    """The content of a record's bytes, and its digest; None: an older release wrote it, unsealed.

    Raises ValueError where it is no JSON object, Altered where a byte is not as it was written.
    """
    content = json.loads(data)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    seal = content.pop(SEAL, None)
    if seal is None:
        return content, None
    ending = _ENDING.search(data)
    if ending is None or _sha256(data[: ending.start()] + b"\n}\n") != ending[1].decode():
        raise Altered(f"its content is not what its {SEAL} says")
    return content, seal


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
