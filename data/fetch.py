"""Fetching a data set's official archive, so that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..bundle.atomic import atomic_folder
from ..bundle.progress import Progress
from ..bundle.wording import cause
from ..errors import MldrError, Unavailable
from .data_config import DataConfig
from .root import cache_folder

_BLOCK = 2**20
_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """An official archive (.tar.gz or .zip) that unpacks to one folder."""

    title: str
    folder: str
    url: str
    md5: str  # as its publishers list it; it guards against damage, not against malice


def locate(archive: Archive, root: Path, config: DataConfig, progress: Progress) -> Path:
    """The unpacked folder: under ``root``, else in the cache, else fetched.

    It is fetched to ``data.root`` where that is set, else to the user's cache folder.
    Raises Unavailable when it is not there and may not or cannot be fetched.
    """
    home = root if config.root else cache_folder()
    for parent in (root, home):
        if (parent / archive.folder).is_dir():
            return parent / archive.folder
    place = f"put its folder {archive.folder} there or name its parent with data.root"
    if not config.download:
        raise Unavailable(f"{archive.title} is not in {root} and data.download is off: {place}")
    try:
        fetch(archive, home, progress)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"{archive.title} is not in {root} and {archive.url} could not be fetched "
            f"({cause(error)}): {place}"
        ) from error
    return home / archive.folder


def fetch(archive: Archive, home: Path, progress: Progress) -> None:
    """Download, compare the checksum, unpack to ``home / archive.folder`` in one step.

    Raises OSError for the network and the disk, MldrError for a checksum that differs.
    """
    with tempfile.TemporaryFile() as file:
        digest = _download(archive, file, progress)
        if digest != archive.md5:
            raise MldrError(
                f"{archive.url} is not {archive.title} as published: its MD5 is {digest}, "
                f"not {archive.md5}; try again or fetch it by other means"
            )
        file.seek(0)
        with atomic_folder(home / archive.folder) as folder:
            _unpack(archive, file, folder)


def _download(archive: Archive, file: IO[bytes], progress: Progress) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(archive.url, timeout=_TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        progress.start(f"fetching {archive.title} (MiB)", int(length) // _BLOCK if length else None)
        try:
            while block := response.read(_BLOCK):
                file.write(block)
                digest.update(block)
                progress.advance(len(block) // _BLOCK)
        finally:
            progress.finish()
    return digest.hexdigest()


def _unpack(archive: Archive, file: IO[bytes], folder: Path) -> None:
    """Unpack to ``folder`` what the archive holds under its one top folder."""
    if archive.url.endswith(".zip"):
        with zipfile.ZipFile(file) as packed:
            packed.extractall(folder)
    else:
        with tarfile.open(fileobj=file) as packed:
            packed.extractall(folder, filter="data")
    inner = folder / archive.folder
    for path in list(inner.iterdir()):
        shutil.move(path, folder / path.name)
    inner.rmdir()
