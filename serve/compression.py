"""HTTP's content codings gzip and deflate, for the bodies of requests and answers."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from .request_refusal import RequestRefusal

# zlib's window bits: 31 is gzip's frame, 15 zlib's own, which HTTP calls deflate.
_REQUESTS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_ANSWERS = {"gzip": 31, "deflate": 15}
_STEP = 1 << 18  # bytes that are inflated before others get their turn


def request_coding(headers: list[str]) -> str | None:
    """Coding of a body by its ``Content-Encoding`` headers; None: it is plain.

    Raises RequestRefusal (415), with what is taken, for any other coding and for several.
    """
    listed = ",".join(headers).lower().split(",")
    codings = [coding.strip() for coding in listed if coding.strip() not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _REQUESTS:
        raise RequestRefusal(
            415,
            "encoding",
            f"content encoding {', '.join(codings)[:40]!r}: send gzip, deflate or plain",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    return codings[0]


async def inflated(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    """``chunks`` of a body, inflated piece by piece, so that a reader may stop at its limit.

    Raises RequestRefusal (400) for what is damaged, cut off or goes on behind its end.
    """
    stream = zlib.decompressobj(_REQUESTS[coding])
    async for chunk in chunks:
        while chunk:
            if stream.eof:
                raise _damaged(coding, "bytes follow its end")
            try:
                yield stream.decompress(chunk, _STEP)
            except zlib.error as error:
                raise _damaged(coding, str(error)) from None
            chunk = stream.unconsumed_tail or stream.unused_data
            await asyncio.sleep(0)
    if not stream.eof:
        raise _damaged(coding, "it is cut off")


def answer_coding(accepted: str | None) -> str | None:
    """The coding that ``Accept-Encoding`` likes best, the first of equals; None: plain."""
    best, best_weight = None, 0.0
    for part in (accepted or "").split(","):
        name, _, parameters = part.partition(";")
        coding, weight = name.strip().lower(), _weight(parameters)
        if coding in _ANSWERS and weight > best_weight:
            best, best_weight = coding, weight
    return best


def deflated(content: bytes, coding: str) -> bytes:
    """``content`` in ``coding``, quickly rather than small."""
    return zlib.compress(content, zlib.Z_BEST_SPEED, _ANSWERS[coding])


def _weight(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _damaged(coding: str, reason: str) -> RequestRefusal:
    return RequestRefusal(400, "encoding", f"the body is no {coding} stream: {reason[:120]}")
