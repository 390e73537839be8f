"""What a source left out: counts by class, and a refusal where too many pictures are missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from ..bundle.data_report import Omission
from ..bundle.progress import Progress
from ..errors import MldrError
from .raw import LeftOut
from .walk import Stray

_NAMED = 3  # reasons that a refusal names
_LISTED = 1000  # files of one reason of which each has a note; more are no matter of single files


def omissions(left_out: Sequence[LeftOut]) -> list[Omission]:
    """Counts by split, class and reason."""
    return [omission for entry in left_out for omission in _of_class(entry)]


def _of_class(entry: LeftOut) -> Iterator[Omission]:
    groups: dict[tuple[str, bool], list[Stray]] = {}
    for stray in entry.strays:
        groups.setdefault((stray.reason, stray.pictures > 0), []).append(stray)
    for (reason, lost), strays in groups.items():
        yield Omission(
            split=entry.split,
            label=entry.label,
            reason=reason,
            count=len(strays),
            first=printable(strays[0].path),
            lost=lost,
        )


def refuse_loss(
    left_out: Sequence[LeftOut], total_pictures: int, share: float, progress: Progress
) -> None:
    """Raise MldrError where more than ``share`` of a class, or of all pictures, is missing.

    ``total_pictures`` counts the pictures of all splits. Before it, notes name each lost file.
    """
    complaint = _first_complaint(left_out, total_pictures, share)
    if complaint is not None:
        for line in _lost_files(left_out):
            progress.note(f"data: {line}")
        raise MldrError(complaint)


def _lost_files(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """The lost files by reason; nothing of a reason with one file, which the refusal names."""
    paths: dict[str, list[str]] = {}
    for stray in (stray for entry in left_out for stray in entry.strays if stray.pictures):
        paths.setdefault(stray.reason, []).append(stray.path)
    for reason, lost in paths.items():
        if 1 < len(lost) <= _LISTED:
            yield from (f"{reason}: {printable(path)}" for path in lost)


def _first_complaint(left_out: Sequence[LeftOut], total_pictures: int, share: float) -> str | None:
    for entry in left_out:
        lost = _missing(entry)
        pictures = entry.taken_pictures if entry.label else total_pictures
        if _exceeds(lost, pictures, share):
            place = f"class {entry.label!r}" if entry.label else "no class"
            return _complaint(lost, pictures, f"{place} in {entry.split}", [entry], share)
    lost = sum(map(_missing, left_out))
    if _exceeds(lost, total_pictures, share):
        return _complaint(lost, total_pictures, "the data set", left_out, share)
    return None


def printable(path: str) -> str:
    """The path as text that every output takes: bytes that are no UTF-8 become marks."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _missing(entry: LeftOut) -> float:
    return sum(stray.pictures for stray in entry.strays)


def _exceeds(lost: float, usable: int, share: float) -> bool:
    if share >= 1 or not lost:
        return False
    return math.isinf(lost) or lost > share * (lost + usable)


def _complaint(
    lost: float, usable: int, place: str, entries: Sequence[LeftOut], share: float
) -> str:
    strays = [stray for entry in entries for stray in entry.strays if stray.pictures]
    counts = Counter(stray.reason for stray in strays).most_common(_NAMED)
    first = {reason: next(s.path for s in strays if s.reason == reason) for reason, _ in counts}
    named = "; ".join(f"{reason}: {n}, first {printable(first[reason])}" for reason, n in counts)
    amount = (
        "an unknown part" if math.isinf(lost) else f"{lost:.0f} of {lost + usable:.0f} pictures"
    )
    return (
        f"{amount} of {place} cannot be used ({named}): mend or remove them, or raise "
        f"data.skip_share ({share:g})"
    )
