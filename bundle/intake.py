"""What a file is that lies among pictures: one judgement for training data, archives and uploads.

The content decides. A suffix only says what was meant: a file that is called like a picture and is
none is a loss; a text beside the pictures is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .debris import APPLE_DOUBLE
from .picture import missing_reader, picture_format


class Kind(Enum):
    """What to do with a file."""

    PICTURE = "picture"
    LOST = "lost"  # a picture is missing because of it
    UNRELATED = "unrelated"  # nobody meant it as a picture
    DEBRIS = "debris"  # a system left it


@dataclass(frozen=True)
class Verdict:
    """A kind and, where it is no picture, what such files are, in the plural."""

    kind: Kind
    reason: str = ""
    replaceable: bool = False  # no loss beside a readable picture of the same name


_PICTURE = Verdict(Kind.PICTURE)
_DEBRIS = Verdict(Kind.DEBRIS)
_UNRELATED = Verdict(Kind.UNRELATED, "files that are no pictures")
_FALSE = Verdict(Kind.LOST, "files that are called like pictures and are none")
_EMPTY = Verdict(Kind.LOST, "empty files")
_LFS = Verdict(Kind.LOST, "Git LFS pointers (fetch with `git lfs pull`)")
_ANNEX = Verdict(Kind.LOST, "git-annex pointers (fetch with `git annex get`)")
_ABSENT = Verdict(Kind.LOST, "placeholders of pictures that are not downloaded", replaceable=True)
_RAW = Verdict(Kind.LOST, "camera raw files (develop them to JPEG or PNG)", replaceable=True)

_SUFFIXES = {
    "read": "jpg jpeg jpe jfif jif png apng webp bmp dib gif tif tiff ppm pgm pbm pnm avif avifs "
    "heic heif hif heics heifs",
    "unread": "jxl jp2 j2k jpf jpx psd psb xcf tga ico icns pcx dds exr hdr svg svgz eps pfm qoi "
    "jxr wdp sgi rgb xpm xbm dcm nii",
    "raw": "3fr arw cr2 cr3 crw dcr dng erf fff iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 "
    "rwl sr2 srf srw x3f",
}
_READ, _UNREAD, _RAWS = (
    frozenset(f".{end}" for end in ends.split()) for ends in _SUFFIXES.values()
)
_CLAIMS = _READ | _UNREAD | _RAWS
_PLACEHOLDERS = (".icloud", ".dvc", ".crdownload", ".part", ".partial", ".download")
_UNSUPPORTED = {  # formats that are no format of ours, by how they begin
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"gimp xcf": "GIMP",
}
_WEAK = ("BMP", "PPM")  # two letters that a text may begin with


def claims_picture(name: str) -> bool:
    """Whether the suffix says that the file is a picture."""
    return _suffix(name) in _CLAIMS


def judge(name: str, head: bytes) -> Verdict:
    """What the file ``name``, whose first `picture.HEAD` bytes are ``head``, is."""
    suffix = _suffix(name)
    if suffix in _PLACEHOLDERS:
        return _ABSENT if claims_picture(name[: -len(suffix)]) else _UNRELATED
    if suffix in _RAWS:  # many are TIFF files whose first picture is a thumbnail
        return _RAW
    if head.startswith(APPLE_DOUBLE):
        return _DEBRIS
    form = picture_format(head)
    if form is not None and not (form in _WEAK and suffix and suffix not in _READ):
        lacking = missing_reader(form)
        return _PICTURE if lacking is None else _unread(form, lacking)
    return _no_picture(suffix, head)


def _no_picture(suffix: str, head: bytes) -> Verdict:
    for magic, form in _UNSUPPORTED.items():
        if head.startswith(magic):
            return _unread(form)
    if suffix in _UNREAD:
        return _unread(suffix)
    if suffix not in _READ:
        return _UNRELATED
    if not head:
        return _EMPTY
    if head.startswith(b"version https://git-lfs"):
        return _LFS
    return _ANNEX if head.startswith(b"/annex/objects/") else _FALSE


def _unread(form: str, remedy: str = "convert them to JPEG or PNG") -> Verdict:
    return Verdict(Kind.LOST, f"{form} files, which are not read here ({remedy})", replaceable=True)


def _suffix(name: str) -> str:
    stem, _, end = name.rpartition(".")
    return f".{end}".casefold() if stem.strip(".") else ""
