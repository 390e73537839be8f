"""Two reports beside each other: what changed, and what is noise."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from ..bundle.wording import figure
from ..errors import MldrError
from .change import LEAST_ROUNDS, LEVEL, THRESHOLD, Change, Samples, changed, judged_together
from .report import Entry, Report, read_report
from .request_stages import END_TO_END

_SERIES = ((END_TO_END, 50), (END_TO_END, 99), ("compute", 50), ("compute", 99))


_HEADER = f"| | before ms | after ms | change % | {100 * LEVEL:.0f} % interval | verdict |"
_COLUMNS = "| --- | ---: | ---: | ---: | ---: | --- |"
_METHOD = (
    f"Test: bootstrap over rounds and samples, Student's {100 * LEVEL:.0f} % interval of the "
    f"ratio, all figures judged together (Benjamini-Hochberg); "
    f"changes under {100 * THRESHOLD:.0f} % are not called changes."
)


@dataclass(frozen=True)
class ComparedFigure:
    """One figure in both reports."""

    entry: str
    series: str
    change: Change


@dataclass(frozen=True)
class ReportComparison:
    """Every figure that both sides have. True when something really changed.

    Prints itself as Markdown.
    """

    rows: list[ComparedFigure]
    notes: list[str] = field(default_factory=list)
    method: str = _METHOD

    def __bool__(self) -> bool:
        return any(row.change.verdict in ("faster", "slower") for row in self.rows)

    def __str__(self) -> str:
        lines = [*(f"note: {note}" for note in self.notes)]
        for entry, rows in groupby(self.rows, key=lambda row: row.entry):
            lines += ["", entry, "", _HEADER, _COLUMNS]
            lines += [f"| {row.series} | {' | '.join(_cells(row.change))} |" for row in rows]
        real = sum(row.change.verdict in ("faster", "slower") for row in self.rows)
        lines += ["", f"{real} of {len(self.rows)} figures changed. {self.method}"]
        return "\n".join(lines).strip()


def compare_files(before: Path, after: Path) -> ReportComparison:
    """``compare`` of two report files or folders. Raises MldrError when one is not readable."""
    return compare(read_report(before), read_report(after))


def compare(before: Report, after: Report) -> ReportComparison:
    """Match entries by file and runtime, series by batch size and load. Raises MldrError when the
    reports have nothing in common."""
    after_entries = {entry.name: entry for entry in after.entries}
    rows = [
        ComparedFigure(entry.name, series, changed(before_samples, after_samples, percent))
        for entry in before.entries
        if entry.name in after_entries
        for series, before_samples, after_samples, percent in _matched(
            entry, after_entries[entry.name]
        )
    ]
    if not rows:
        raise MldrError("the two reports have no file, runtime and batch size in common")
    changes = judged_together([row.change for row in rows])
    rows = [replace(row, change=change) for row, change in zip(rows, changes, strict=True)]
    return ReportComparison(rows, list(_notes(before, after)))


def _matched(before: Entry, after: Entry) -> Iterator[tuple[str, Samples, Samples, float]]:
    batches = {closed.batch: closed for closed in after.closed}
    for closed in before.closed:
        if closed.batch in batches:
            for stage, percent in _SERIES:
                name = f"batch {closed.batch} {stage.replace('_', ' ')} p{percent}"
                after_rounds = batches[closed.batch].rounds
                yield (
                    name,
                    [r.samples(stage) for r in closed.rounds],
                    [r.samples(stage) for r in after_rounds],
                    percent,
                )
    loads = {arrived.load: arrived for arrived in after.poisson}
    for arrived in before.poisson:
        if arrived.load in loads:
            for percent in (50, 99):
                yield (
                    f"load {arrived.load:.0%} latency p{percent}",
                    [np.array(r.latency) for r in arrived.rounds],
                    [np.array(r.latency) for r in loads[arrived.load].rounds],
                    percent,
                )


def _notes(before: Report, after: Report) -> Iterator[str]:
    for subject, before_text, after_text in (
        ("machines", str(before.machine), str(after.machine)),
        ("bundles", before.subject.manifest_sha256[:12], after.subject.manifest_sha256[:12]),
        ("versions", _versions(before), _versions(after)),
        ("encodings of the images", before.config.encoding, after.config.encoding),
    ):
        if before_text != after_text:
            yield f"the {subject} differ: {before_text} and {after_text}"
    entries = [{entry.name: entry for entry in report.entries} for report in (before, after)]
    yield from only_in(*entries)
    for name in entries[0]:
        if name in entries[1]:
            yield from only_in(*(_series_of(side[name]) for side in entries))
    yield from too_few(min(before.config.rounds, after.config.rounds))


def only_in(first: Collection[str], second: Collection[str]) -> Iterator[str]:
    """A note on the names that one of the two lacks, which are compared with nothing."""
    for side, names in (
        ("first", {*first} - {*second}),
        ("second", {*second} - {*first}),
    ):
        if names:
            yield f"only in the {side}: {', '.join(sorted(names))}"


def too_few(rounds: int) -> Iterator[str]:
    """A note where ``rounds`` are too few to tell a change from noise."""
    if rounds < LEAST_ROUNDS:
        yield f"fewer than {LEAST_ROUNDS} rounds: noise between rounds is not known"


def _series_of(entry: Entry) -> set[str]:
    """The batch sizes and loads of ``entry``, by name."""
    batches = {f"{entry.name} at batch {closed.batch}" for closed in entry.closed}
    return batches | {f"{entry.name} at load {arrived.load:.0%}" for arrived in entry.poisson}


def _versions(report: Report) -> str:
    return ", ".join(f"{name} {version}" for name, version in report.machine.versions.items())


def _cells(change: Change) -> list[str]:
    """Before and after in ms, the change, its interval and the verdict."""
    figures = [figure(ns / 1e6) for ns in (change.before, change.after)]
    figures.append(f"{100 * (change.ratio - 1):+.1f}")
    if change.verdict is None:
        return [*figures, "-", "too few rounds to tell"]
    interval = f"{100 * (change.low - 1):+.1f} to {100 * (change.high - 1):+.1f}"
    return [*figures, interval, change.verdict]
