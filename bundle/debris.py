"""What systems leave among a person's files: names that no way in looks at, at any depth.

Hidden names, recycle bins, thumbnails, snapshots, version control. Only names that nobody gives to
a class stand here: a class may be called `thumbs` or `recycle`.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# Folded: file systems differ in whether case counts.
_NAMES = frozenset(
    {
        "__macosx",  # macOS: resource forks in archives
        "desktop db",
        "desktop df",
        "icon\r",
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        "$recycle.bin",  # Windows
        "system volume information",
        "desktop.ini",
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "@eadir",  # Synology
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "@__thumb",
        "@tmp",
        "lost+found",  # Linux, Android
        "lost.dir",
        "__pycache__",
        "_gsdata_",  # GoodSync
    }
)
_PATTERNS = re.compile(
    r"s-1-5-[\d-]+"  # a user's part of a Windows recycle bin
    r"|found\.\d{3}"  # what chkdsk saved
    r"|_vti_\w+"  # FrontPage
    r"|.*@syno(eastream|resource)"
    r"|~\$.*|.*~"  # locks and backups of editors
    r"|.*\.\w+_original"  # ExifTool's backups
    r"|.*\.(bak|orig)"
)
_PLACEHOLDER = ".icloud"  # hidden, but it stands for a file of the person's
APPLE_DOUBLE = (b"\0\5\x16\7", b"\0\5\x16\0")  # how a resource fork begins, whatever its name


def is_debris(name: str) -> bool:
    """Whether a file or folder of this name is a system's, not a person's."""
    folded = name.casefold()
    if folded[:1] == ".":
        return not folded.endswith(_PLACEHOLDER)
    return folded in _NAMES or _PATTERNS.fullmatch(folded) is not None


def lies_in_debris(path: str) -> bool:
    """Whether any part of a relative path, of either system's form, is debris."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return any(is_debris(part) for part in parts if part != "..")
