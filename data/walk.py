"""The one walk through a folder of data: what lies in it, and what cannot be reached.

Links to folders are followed, each folder once. What systems leave is passed over at every depth.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..bundle.debris import is_debris
from ..bundle.intake import Kind, Verdict, claims_picture, judge
from ..bundle.picture import HEAD

_HIDDEN_FOLDER = "hidden or system folders, not looked into"
_HIDDEN_FILE = "hidden pictures"
_SPECIAL = "neither files nor folders"
_DANGLING = "links to nothing"
_LINKED_TWICE = "links to a folder that is looked into elsewhere, or that holds the link"


@dataclass(frozen=True)
class Stray:
    """A file or folder that is left out."""

    path: str  # relative, with slashes
    reason: str  # what such things are, in the plural
    pictures: float = 0  # that are missing because of it; infinity: nobody knows


@dataclass
class Walk:
    """Files under a folder, by relative path, and what cannot be taken."""

    files: list[str] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)


@dataclass
class FolderEntries:
    """The entries of one folder: folders to enter, files to open, and those that are neither."""

    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # those of the folders that are links
    files: list[str] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)


def listing(folder: Path) -> FolderEntries:
    """Names in ``folder``, sorted, without what systems leave; a stray "." where it is closed."""
    result = FolderEntries()
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        result.strays.append(Stray(".", _unlisted(error), float("inf")))
        return result
    for entry in entries:
        if is_debris(entry.name):
            result.strays += _debris(entry)
        elif (stray := _unreachable(entry)) is not None:
            result.strays.append(stray)
        elif entry.is_dir():
            result.folders.append(entry.name)
            result.links += [entry.name] if entry.is_symlink() else []
        else:
            result.files.append(entry.name)
    return result


def walk(folder: Path) -> Walk:
    """Every file under ``folder``, at any depth, sorted by the parts of its path.

    Links are followed after real folders, so that a picture keeps its own place's name.
    """
    above = (folder, *folder.absolute().parents, *folder.resolve().parents)
    entered_folders = {_identity(place) for place in above}
    result = Walk()
    real, linked = [""], list[str]()
    while real or linked:
        inside = real.pop() if real else linked.pop()
        if inside and not _is_new(folder / inside, entered_folders):
            result.strays.append(Stray(inside, _LINKED_TWICE))
            continue
        entries = listing(folder / inside)
        result.files += [_joined(inside, name) for name in entries.files]
        result.strays += [under(inside, stray) for stray in entries.strays]
        for name in entries.folders:
            (linked if name in entries.links else real).append(_joined(inside, name))
        linked.sort(reverse=True)
    result.files.sort(key=lambda path: path.split("/"))
    return result


def under(folder: str, stray: Stray) -> Stray:
    """The stray of ``folder`` with its path from where ``folder`` lies."""
    path = (folder or ".") if stray.path == "." else _joined(folder, stray.path)
    return Stray(path, stray.reason, stray.pictures)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder not in ("", ".") else name


def _is_new(place: Path, entered_folders: set[tuple[int, int]]) -> bool:
    identity = _identity(place)
    fresh = identity not in entered_folders
    entered_folders.add(identity)
    return fresh


def _identity(place: Path) -> tuple[int, int]:
    try:
        status = place.stat()
    except OSError:  # listing it will say why
        return (-1, hash(place))
    return status.st_dev, status.st_ino


def _debris(entry: os.DirEntry[str]) -> list[Stray]:
    """The debris that is named: folders, and hidden files that may be the person's pictures."""
    if entry.is_dir(follow_symlinks=False):
        return [Stray(entry.name, _HIDDEN_FOLDER)]
    if claims_picture(entry.name) and entry.name[:1] == "." and entry.name[:2] != "._":
        return [Stray(entry.name, _HIDDEN_FILE)]
    return []


def _unreachable(entry: os.DirEntry[str]) -> Stray | None:
    """The stray of an entry that is neither a file nor a folder that can be listed; else None."""
    try:
        if entry.is_file() or entry.is_dir():
            return None
        reason = _DANGLING if entry.is_symlink() else _SPECIAL
    except OSError as error:
        reason = _unread(error)
    return Stray(entry.name, reason, 0 if reason == _SPECIAL else _missing(entry.name))


def _missing(name: str) -> float:
    """Pictures that an unreachable name stands for; without a suffix it may be a folder's."""
    return 1 if claims_picture(name) else 0 if "." in name else float("inf")


@dataclass
class Survey:
    """The pictures under a folder, by relative path, and everything that is none."""

    pictures: list[str] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)


def survey(folder: Path) -> Survey:
    """Look at every file under ``folder``: its first bytes say whether it is a picture."""
    walked = walk(folder)
    judged = [(path, look(f"{folder}/{path}")) for path in walked.files]
    pictures = [path for path, verdict in judged if verdict.kind is Kind.PICTURE]
    strays = walked.strays + _strays(judged, pictures)
    return Survey(pictures, strays)


def look(path: str) -> Verdict:
    """What the file at ``path`` is; one that cannot be read is lost, whatever it is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.read(descriptor, HEAD)
        finally:
            os.close(descriptor)
    except OSError as error:
        return Verdict(Kind.LOST, _unread(error))
    return judge(path.rpartition("/")[2], head)


def _strays(judged: list[tuple[str, Verdict]], pictures: list[str]) -> list[Stray]:
    """The files that are no pictures; a raw file beside its own JPEG is no loss."""
    odd = [(path, verdict) for path, verdict in judged if verdict.reason]
    stems = {_stem(path) for path in pictures} if odd else set()
    strays = []
    for path, verdict in odd:
        stem = _stem(path)
        spared = verdict.replaceable and not stems.isdisjoint((stem, _stem(stem)))
        lost = verdict.kind is Kind.LOST and not spared
        strays.append(Stray(path, verdict.reason, float(lost)))
    return strays


def _stem(path: str) -> str:
    """The folded path without its suffix; "IMG_1.jpg.part" needs it twice."""
    return (path.rpartition(".")[0] or path).casefold()


def _unlisted(error: OSError) -> str:
    return f"folders that cannot be listed ({error.strerror})"


def _unread(error: OSError) -> str:
    return f"files that cannot be read ({error.strerror})"
