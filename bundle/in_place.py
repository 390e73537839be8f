"""Replacing what a folder holds, where the folder itself cannot be renamed: a mounted volume.

DEST/.NAME.new     what is coming; the folder has this name once everything in it is complete
DEST/.NAME.old     what was there, until then
DEST/...           the volume's own, `lost+found` and hidden entries, is left as it is

The new content waits in DEST itself, so that it only has to be renamed. A process killed on the way
leaves a folder without its marker, which no reader takes for whole; `recover` completes the change,
or takes it back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

NEW, OLD = ".new", ".old"


def contents(folder: Path) -> Iterator[Path]:
    """What a mounted folder holds beside the volume's own."""
    for entry in folder.iterdir():
        if entry.name[0] != "." and entry.name != "lost+found":
            yield entry


def put_in_place(coming: Path, marker: str | None) -> None:
    """Let what lies in ``coming`` replace the contents of the folder above it.

    The file ``marker`` leaves first and arrives last. When this raises, everything is as it was.
    """
    old = coming.with_suffix(OLD)
    old.mkdir()
    try:
        for entry in sorted(contents(coming.parent), key=lambda entry: entry.name != marker):
            shutil.move(entry, old / entry.name)  # copies the folders of an image's lower layers
        ready = coming.rename(coming.with_suffix(NEW))
    except BaseException:
        recover(old, marker)
        raise
    recover(ready, marker)


def recover(staged: Path, marker: str | None) -> None:
    """Complete the change of ``staged``, a .new folder, or take back that of an .old folder.

    Where both folders exist, the change is completed.
    """
    ready, old = staged.with_suffix(NEW), staged.with_suffix(OLD)
    source = ready if ready.is_dir() else old
    for entry in sorted(source.iterdir(), key=lambda entry: entry.name == marker):
        target = staged.parent / entry.name
        if not target.exists():
            os.replace(entry, target)  # noqa: PTH105  a folder is never put into another
    for folder in (ready, old):
        shutil.rmtree(folder, ignore_errors=True)
