"""The report as a page of Markdown: for a pull request, a terminal, a wiki."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..bundle.wording import figure
from .report import Entry, Report

MB = 1e6


def markdown(report: Report) -> str:
    """Recommendation, one table a question, warnings, machine."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    subject, pick = report.subject, report.recommendation
    yield f"# Latency of {subject.model} ({subject.name})"
    yield ""
    yield f"**{pick.headline}**: {pick.reason}."
    yield ""
    yield f"{report.machine}; {report.machine.system}; {report.created}."
    yield from _section("Batch 1, one request after another, end to end", _first(report.entries))
    yield from _section("Where the time goes at batch 1, mean ms", _stages(report.entries))
    yield from _section("Batch sizes, end to end", _batches(report.entries))
    if any(entry.poisson for entry in report.entries):
        yield from _section(
            "Poisson arrivals, latency from the scheduled arrival", _poisson(report)
        )
    for title, items in (("Warnings", report.warnings), ("Not run", report.left_out)):
        if items:
            yield from ("", f"## {title}", "")
            yield from (f"- {item}" for item in items)
    yield ""
    yield (
        "Percentiles by nearest rank over all rounds; "
        + ", ".join(f"{name} {version}" for name, version in report.machine.versions.items())
        + "."
    )


def _section(title: str, table: Iterable[list[str]]) -> Iterator[str]:
    header, *rows = table
    yield from ("", f"## {title}", "")
    yield f"| {' | '.join(header)} |"
    yield f"| --- |{' ---: |' * (len(header) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _first(entries: list[Entry]) -> Iterator[list[str]]:
    yield ["artifact", "top-1 %", "MB", "p50 ms", "p90", "p95", "p99", "mean", "images/s", "CV %"]
    for entry in entries:
        latency = entry.first.end_to_end
        times = [
            figure(v) for v in (latency.p50, latency.p90, latency.p95, latency.p99, latency.mean)
        ]
        yield [
            _named(entry),
            f"{entry.accuracy.top1:.2f}",
            f"{entry.bytes / MB:.2f}",
            *times,
            f"{entry.first.throughput:.0f}",
            f"{latency.cv:.1f}",
        ]


def _stages(entries: list[Entry]) -> Iterator[list[str]]:
    names = list(entries[0].first.summary)
    yield ["artifact", "top-1 %", *(name.replace("_", " ") for name in names)]
    for entry in entries:
        means = [figure(entry.first.summary[name].mean) for name in names]
        yield [_named(entry), f"{entry.accuracy.top1:.2f}", *means]


def _batches(entries: list[Entry]) -> Iterator[list[str]]:
    yield ["artifact", "top-1 %", "batch", "p50 ms", "p99 ms", "images/s", "compute p50 ms"]
    for entry in entries:
        for closed in entry.closed:
            latency = closed.end_to_end
            yield [
                _named(entry),
                f"{entry.accuracy.top1:.2f}",
                str(closed.batch),
                figure(latency.p50),
                figure(latency.p99),
                f"{closed.throughput:.0f}",
                figure(closed.summary["compute"].p50),
            ]


def _poisson(report: Report) -> Iterator[list[str]]:
    yield ["artifact", "top-1 %", "load", "arrivals/s", "p50 ms", "p99 ms", "mean wait ms"]
    for entry in report.entries:
        for arrived in entry.poisson:
            yield [
                _named(entry),
                f"{entry.accuracy.top1:.2f}",
                f"{arrived.load:.0%}",
                f"{arrived.rate:.0f}",
                figure(arrived.latency.p50),
                figure(arrived.latency.p99),
                figure(arrived.waiting.mean),
            ]


def _named(entry: Entry) -> str:
    return entry.name if entry.status == "passed" else f"{entry.name} (FAILED its gate)"
