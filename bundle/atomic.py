"""Writes that are all there or not there: temporary name, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import MldrError
from .in_place import NEW, OLD, contents, put_in_place, recover

_live: set[Path] = set()  # temporary folders that this process is writing at the moment
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # there is no room for what is written
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # some network file systems, of a folder


class Unwritable(MldrError):
    """``path`` cannot be written, and what the system said to it."""

    def __init__(self, path: Path, error: OSError) -> None:
        reason = error.strerror or error
        super().__init__(f"{path} cannot be written ({reason}): free space or choose another place")
        self.path, self.error = path, error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Any OSError of the block is raised as Unwritable: it writes ``path``, in its own way."""
    try:
        yield
    except OSError as error:
        raise Unwritable(path, error) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary sibling of ``path`` to write; renamed over ``path`` at a clean exit.

    A reader sees the old file or the new one. Raises Unwritable for any OSError on the way.
    """
    temporary = path.with_name(_temporary_name(path.name, "tmp"))
    try:
        temporary.open("xb").close()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # a library may have put a file there that only its owner reads
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    except OSError as error:
        raise Unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file ``path`` by ``data`` in one step; raises as `atomic_file`."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` of ``text`` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, obj: object) -> None:
    """``write_bytes`` of the `json_bytes` of ``obj``."""
    write_bytes(path, json_bytes(obj))


def json_bytes(obj: object) -> bytes:
    """``obj`` as indented JSON, keys in the order given.

    Bytes of a file name that are not UTF-8 (surrogates) are escaped, and come back when read.
    Raises ValueError for NaN and infinities: they are not JSON and other readers refuse them.
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_folder(dest: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A temporary sibling of ``dest`` to write into; renamed over ``dest`` at a clean exit.

    When the body raises, ``dest`` is as it was and the temporary folder is gone. POSIX cannot
    exchange two folders in one portable call, so an existing ``dest`` is first renamed aside; a
    process killed between the two renames leaves it there, and the next writer puts it back. A
    ``dest`` that cannot be renamed, such as a mounted volume, keeps its place and gets the new
    content entry by entry, the file ``replaces`` last.

    ``replaces`` names a file that an earlier ``dest`` of ours holds: a folder with other content is
    refused, so that a mistyped path costs nobody his files. Raises MldrError for that, Unwritable
    where the folder cannot be written, whoever in the body meets it.
    """
    dest = dest.resolve()
    temporary = _begun(dest, replaces)
    replaced = temporary.with_suffix(OLD)
    _live.update((temporary, replaced))
    try:
        try:
            yield temporary
        except OSError as error:
            if error.errno in FULL or _is_within(error, temporary):
                raise Unwritable(dest, error) from error
            raise
        except Unwritable as failure:
            if not failure.path.is_relative_to(temporary):
                raise
            raise Unwritable(dest / failure.path.relative_to(temporary), failure.error) from failure
        _swap(temporary, dest, replaces)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _live.difference_update((temporary, replaced))


def require_folder(dest: Path, *, replaces: str) -> None:
    """Raises the MldrError that ``atomic_folder`` would: before long work rather than after."""
    _begun(dest.resolve(), replaces).rmdir()


def _is_within(error: OSError, folder: Path) -> bool:
    """Whether it is of a file in ``folder``."""
    names = (error.filename, error.filename2)
    return any(isinstance(name, str | Path) and Path(name).is_relative_to(folder) for name in names)


def _begun(dest: Path, replaces: str | None) -> Path:
    """The empty temporary folder for ``dest``, what was left of earlier ones cleared away."""
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        home = dest if _stays(dest) else dest.parent
        _clear_stale(dest, home, replaces)
        _require_ours(dest, replaces)
        temporary = home / _temporary_name(dest.name, "tmp")
        temporary.mkdir()
    except OSError as error:
        raise Unwritable(dest, error) from error
    return temporary


def _stays(dest: Path) -> bool:
    """Whether ``dest`` can be written into but not renamed: a mount point, or in a fixed folder."""
    return dest.is_dir() and (dest.is_mount() or not os.access(dest.parent, os.W_OK | os.X_OK))


def _swap(temporary: Path, dest: Path, replaces: str | None) -> None:
    replaced = temporary.with_suffix(OLD)
    try:
        _widen_modes(temporary)
        _fsync_tree(temporary)
        if temporary.parent == dest:
            put_in_place(temporary, replaces)
        elif not dest.exists() or _renamed(dest, replaced):
            try:
                temporary.rename(dest)
            except BaseException:
                if replaced.exists():
                    replaced.rename(dest)
                raise
        else:
            _copy_into(dest, temporary, replaces)
        _fsync(temporary.parent)
    except OSError as error:
        raise Unwritable(dest, error) from error
    shutil.rmtree(replaced, ignore_errors=True)


def _renamed(dest: Path, target: Path) -> bool:
    """Rename; False where the system says that ``dest`` has its place.

    A folder of the same disk mounted a second time does not look like a mount point, and neither
    does one in a lower layer of a container's image.
    """
    try:
        dest.rename(target)
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EXDEV):
            return False
        raise
    return True


def _copy_into(dest: Path, temporary: Path, replaces: str | None) -> None:
    """Copy the temporary folder to where ``dest`` is mounted, then put it in place there."""
    inside = dest / temporary.name
    try:
        shutil.copytree(temporary, inside)
        _fsync_tree(inside)
        put_in_place(inside, replaces)
    finally:
        shutil.rmtree(inside, ignore_errors=True)


def _require_ours(dest: Path, replaces: str | None) -> None:
    if dest.exists() and not dest.is_dir():
        raise MldrError(f"{dest} is a file: name a folder to write")
    if replaces is None or not dest.exists() or (dest / replaces).exists():
        return
    if any(contents(dest) if _stays(dest) else dest.iterdir()):
        raise MldrError(
            f"{dest} holds other files (there is no {replaces} in it) and would be replaced: name "
            "a new or empty folder"
        )


def _temporary_name(name: str, kind: str) -> str:
    """``.NAME.HOST.PID.TOKEN.KIND``: hidden, unique, and it tells who wrote it."""
    host = socket.gethostname().replace(".", "-")
    return f".{name}.{host}.{os.getpid()}.{secrets.token_hex(4)}.{kind}"


def _clear_stale(dest: Path, home: Path, replaces: str | None) -> None:
    """Remove what dead processes of this machine left for ``dest``; put a lost ``dest`` back."""
    host = socket.gethostname().replace(".", "-")
    prefix = f".{dest.name}.{host}."
    for path in sorted(home.iterdir()):
        if not path.name.startswith(prefix) or path in _live or not path.exists():
            continue
        pid = path.name.removeprefix(prefix).partition(".")[0]
        if path.suffix not in (".tmp", OLD, NEW) or not pid.isdigit() or _alive(int(pid)):
            continue
        if path.suffix != ".tmp" and home == dest:
            recover(path, replaces)
        elif path.suffix == OLD and not dest.exists():
            path.rename(dest)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # ours are in _live; one that is not was left by an earlier owner of the pid
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def _widen_modes(folder: Path) -> None:
    """Let whoever may read the folder read its files: some libraries leave them to their owner."""
    fresh = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and (mode := path.stat().st_mode) | fresh != mode:
            path.chmod(mode | fresh)


def _fsync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _fsync(path)
    _fsync(folder)
