"""Reading a JSON record of ours: one clear refusal for each way it can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import MldrError
from .sealed import SEAL, Altered, unsealed
from .wording import cause

Record = TypeVar("Record", bound=BaseModel)


def read_record(
    path: Path,
    kind: type[Record],
    *,
    newest: int,
    oldest: int = 1,
    sealed_from: int | None = None,
) -> Record:
    """``path`` as a ``kind``, whose ``schema_version`` this program reads from ``oldest`` on.

    ``sealed_from``: the first version that carries its digest (`sealed`); None: none does. Raises
    MldrError when it is missing, not JSON, of a schema beyond ``newest`` or before ``oldest``, was
    changed after it was written, or has wrong fields.
    """
    try:
        content, seal = unsealed(path.read_bytes())
    except FileNotFoundError:
        raise MldrError(f"{path} is missing: write the folder again") from None
    except Altered as error:
        raise MldrError(
            f"{path} was changed after it was written ({error}): restore it or write the folder "
            "again"
        ) from None
    except (OSError, ValueError) as error:
        raise MldrError(
            f"{path} is not readable JSON ({cause(error)}): write the folder again"
        ) from None
    version = content.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise MldrError(f"{path} states no schema_version: it was not written by mldr-deploy")
    if version > newest:
        raise MldrError(
            f"{path} has schema version {version}, this program reads up to {newest}: "
            "upgrade mldr-deploy"
        )
    if version < oldest:
        raise MldrError(
            f"{path} has schema version {version}, whose proofs are fewer than this program relies "
            f"on (it reads {oldest} to {newest}): export it again"
        )
    if seal is None and sealed_from is not None and version >= sealed_from:
        raise MldrError(
            f"{path} has lost its {SEAL}, which schema version {version} carries: restore it or "
            "write the folder again"
        )
    try:
        return kind.model_validate(content if seal is None else {**content, SEAL: seal})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the record"
        raise MldrError(f"{path}: {field}: {first['msg']}: write the folder again") from None
