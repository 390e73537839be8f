"""Where named data sets are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import MldrError

VARIABLE = "MLDR_DATA"


def data_root(configured: str | None) -> Path:
    """``data.root``, else $MLDR_DATA, else <checkout>/../shared/data if there, else the cache.

    Raises MldrError when a folder was named and does not exist.
    """
    for origin, named in (("data.root", configured), (f"${VARIABLE}", os.environ.get(VARIABLE))):
        if named:
            folder = Path(named).expanduser()
            if not folder.is_dir():
                raise MldrError(f"{origin} names {folder}, which is not a folder")
            return folder
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else cache_folder()


def cache_folder() -> Path:
    """The user's cache folder, where downloads go; it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mldr-deploy" / "data"
