"""Encoded pictures without the blocks that carry no pixels.

Pillow gives up on a good picture whose comment is too large or whose profile is damaged; without
those blocks it decodes. Only what fails is brought here, so that ordinary files cost nothing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

Blocks = dict[str, bytes]  # `exif` and `xmp` as Pillow's info holds them: they say which way is up

_EOI, _SOS, _COM, _APP0, _APP1, _APP14, _APP15 = 0xD9, 0xDA, 0xFE, 0xE0, 0xE1, 0xEE, 0xEF
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_XMP_OF_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_OF_PNG = b"XML:com.adobe.xmp\0\0\0"  # not compressed
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_WEBP_METADATA = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}  # and its flag in VP8X
_EXIF_ITEM = re.compile(rb"(infe\x02.{7}|infe\x03.{9})Exif", re.DOTALL)
# TIFF: size, depth, compression, orientation, strips, tiles, palette, samples, JPEG, YCbCr, DNG.
_PIXEL_TAGS = {254, *range(256, 269), 273, 274, 277, 278, 279, 284, 292, 293, 317, 320}
_PIXEL_TAGS |= {*range(322, 326), 338, 339, 347, *range(512, 522), *range(529, 533), 50706}
_UNKNOWN_TYPE = 0xFFFF


def pixels_only(data: bytes, form: str) -> tuple[bytes, Blocks]:
    """``data`` of format ``form`` without metadata, and of that what may turn the picture.

    Raises ValueError where the format has none, struct.error and IndexError for damaged files.
    """
    if form not in _STRIPPED:
        raise ValueError(f"{form} has no metadata that could be left out")
    return _STRIPPED[form](data)


def has_more_scans(data: bytes, limit: int) -> bool:
    """Whether the JPEG ``data`` has more than ``limit`` scans, before anything is decoded.

    What follows the picture in the file, a phone's film for example, does not count.
    """
    if data.count(b"\xff\xda") <= limit:  # much faster
        return False
    return sum(marker == _SOS for marker, _ in _jpeg_segments(data)) > limit


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, segment with its marker) up to the end of the first picture."""
    position = 2
    while match := _NEXT_MARKER.search(data, position):
        start, marker = match.start(), data[match.start() + 1]
        if marker == _EOI:
            yield marker, data[start : start + 2]
            return
        position = start + 2 + struct.unpack_from(">H", data, start + 2)[0]
        if marker == _SOS:  # the coded pixels belong to it
            following = _NEXT_MARKER.search(data, position)
            position = following.start() if following else len(data)
        yield marker, data[start:position]


def _jpeg(data: bytes) -> tuple[bytes, Blocks]:
    parts, blocks = [data[:2]], Blocks()
    for marker, segment in _jpeg_segments(data):
        content = segment[4:]
        if marker == _APP1 and content.startswith(b"Exif\0\0"):
            blocks.setdefault("exif", content)
        elif marker == _APP1 and content.startswith(_XMP_OF_JPEG):
            blocks.setdefault("xmp", content.removeprefix(_XMP_OF_JPEG))
        # These two say how the colours are stored.
        jfif = marker == _APP0 and content.startswith(b"JFIF\0") and len(content) >= 14
        adobe = marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12
        if jfif or adobe or not (_APP0 <= marker <= _APP15 or marker == _COM):
            parts.append(segment)
    return b"".join(parts), blocks


def _png(data: bytes) -> tuple[bytes, Blocks]:
    parts, blocks = [data[:8]], Blocks()
    position = 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        if kind in _PIXEL_CHUNKS:
            parts.append(data[position : position + 12 + length])
        elif kind == b"eXIf":
            blocks["exif"] = b"Exif\0\0" + content
        elif kind == b"iTXt" and content.startswith(_XMP_OF_PNG):
            blocks["xmp"] = content.removeprefix(_XMP_OF_PNG).split(b"\0", 2)[-1]
        position += 12 + length
    return b"".join(parts), blocks


def _webp(data: bytes) -> tuple[bytes, Blocks]:
    if struct.unpack_from("<I", data, 4)[0] > len(data) - 8:
        raise ValueError("truncated")
    parts, blocks = [], Blocks()
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        content = data[position + 8 : position + 8 + length]
        if kind == b"VP8X":
            flags = content[0] & ~sum(_WEBP_METADATA.values())
            parts.append(data[position : position + 8] + bytes([flags]) + content[1:])
        elif kind not in _WEBP_METADATA:
            parts.append(data[position : position + 8 + length + length % 2])
        elif kind != b"ICCP":
            blocks[kind.decode().strip().lower()] = content
        position += 8 + length + length % 2
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body, blocks


def _avif(data: bytes) -> tuple[bytes, Blocks]:
    """The Exif item becomes one that nobody reads; AVIF has its orientation elsewhere."""
    return _EXIF_ITEM.sub(rb"\1skip", data), {}


def _tiff(data: bytes) -> tuple[bytes, Blocks]:
    """In the first directory, tags that say nothing of pixels get a type that is passed over."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    first, size = start + (8 if big else 2), 20 if big else 12
    changed = bytearray(data)
    for position in range(first, first + count * size, size):
        if struct.unpack_from(order + "H", data, position)[0] not in _PIXEL_TAGS:
            struct.pack_into(order + "H", changed, position + 2, _UNKNOWN_TYPE)
    return bytes(changed), {}


_STRIPPED: dict[str, Callable[[bytes], tuple[bytes, Blocks]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "AVIF": _avif,
    "TIFF": _tiff,
}
