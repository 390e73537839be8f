"""Images of a folder upload or a zip archive, read in memory: nothing is ever unpacked to disk.

Which files are looked at and which are pictures follows the rules of training data. A path inside
an archive is a name for the table and, by its last folder, a label; it is never opened. Limits are
checked while bytes are unpacked; the sizes that an archive states for itself are not relied on.
"""

from __future__ import annotations

import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..bundle.debris import lies_in_debris
from ..bundle.intake import Kind, judge
from ..bundle.picture import FORMATS, HEAD
from ..serve.request_refusal import RequestRefusal
from .demo_config import DemoConfig
from .uploaded_image import too_large

_BLOCK = 1 << 16
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Picture:
    """One file: its bytes, or why there are none."""

    name: str
    data: bytes = b""
    problem: str | None = None

    @property
    def folder(self) -> str:
        """Name of the folder that holds it, in Unicode NFC: the label, where it is one."""
        return unicodedata.normalize("NFC", PurePosixPath(self.name).parent.name)


def pictures(files: Sequence[tuple[str, Path | None]], config: DemoConfig) -> Iterator[Picture]:
    """The images in uploaded files (name, path), of which zip archives are looked into.

    A path of None is a file that was too large to be uploaded. Raises RequestRefusal for what
    cannot be an upload at all: no image, too many, a damaged or encrypted archive, one that unpacks
    to more than is allowed.
    """
    count = 0
    for name, path in files:
        for picture in _within(name, path, config):
            count += 1
            if count > config.max_files:
                raise RequestRefusal(
                    413, "files", f"more than {config.max_files} images: upload them in parts"
                )
            yield picture
    if not count:
        raise RequestRefusal(
            400,
            "no_images",
            f"no image in the upload (taken are {', '.join(FORMATS)}, and zip archives of them)",
        )


def _within(name: str, path: Path | None, config: DemoConfig) -> Iterator[Picture]:
    if path is not None and name.lower().endswith(".zip"):
        yield from _unpacked(path, config)
    elif not lies_in_debris(name) and (picture := _single(name, path, config)) is not None:
        yield picture


def _refused(name: str, head: bytes) -> str | None:
    """Why a file that begins with ``head`` is not read further; empty: it was not meant as one."""
    verdict = judge(PurePosixPath(name.replace("\\", "/")).name, head)
    if verdict.kind is Kind.PICTURE:
        return None
    return f"one of the {verdict.reason}" if verdict.kind is Kind.LOST else ""


def _single(name: str, path: Path | None, config: DemoConfig) -> Picture | None:
    """The file; None where it is no picture and was not meant as one."""
    if path is None:
        return Picture(name, problem=f"not uploaded: more than {config.max_upload_mib:g} MiB?")
    with path.open("rb") as file:
        head = file.read(HEAD)
    if (problem := _refused(name, head)) is not None:
        return Picture(name, problem=problem) if problem else None
    size = path.stat().st_size
    if size > config.max_upload:
        return Picture(name, problem=str(too_large(size, config.max_upload)))
    return Picture(name, path.read_bytes())


def _unpacked(path: Path, config: DemoConfig) -> Iterator[Picture]:
    budget = config.max_unpacked
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.is_dir() or lies_in_debris(entry.filename):
                    continue
                if entry.flag_bits & _ENCRYPTED:
                    raise RequestRefusal(
                        400, "encrypted", "the archive has a password: pack it without"
                    )
                picture = _member(archive, entry, budget, config)
                if picture is None:
                    continue
                budget -= len(picture.data)
                if budget <= 0:
                    raise _bomb(config)
                yield picture
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        message = f"the zip archive is damaged ({reason}): pack it again"
        raise RequestRefusal(400, "archive", message) from None


def _member(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: int, config: DemoConfig
) -> Picture | None:
    """One file; None as in ``_single``. Raises RequestRefusal beyond ``budget`` bytes."""
    name = entry.filename
    if _leaves(name):
        return Picture(name, problem="its path leads out of the archive: not read")
    blocks: list[bytes] = []
    size = 0
    with archive.open(entry) as file:
        head = file.read(HEAD)
        if (problem := _refused(name, head)) is not None:
            return Picture(name, problem=problem) if problem else None
        blocks.append(head)
        size += len(head)
        while block := file.read(_BLOCK):
            size += len(block)
            if size > budget:
                raise _bomb(config)
            if size > config.max_upload:
                return Picture(name, problem=f"unpacks to more than {config.max_upload_mib:g} MiB")
            blocks.append(block)
    return Picture(name, b"".join(blocks))


def _leaves(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in path.parts[0]


def _bomb(config: DemoConfig) -> RequestRefusal:
    return RequestRefusal(
        413,
        "unpacked",
        f"the archive unpacks to more than {config.max_unpacked_mib:g} MiB: upload it in parts",
    )
