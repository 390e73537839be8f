"""``report.html``: one file, nothing fetched, no script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from ...bundle.wording import figure
from ..report import Report
from ..request_stages import STAGES
from . import curves, rows, tables
from .quality_cards import quality_cards
from .style import CSS
from .svg import colour


def page(report: Report) -> str:
    """The whole document."""
    return "\n".join(_document(report)) + "\n"


def _document(report: Report) -> Iterator[str]:
    subject = report.subject
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>Latency of {escape(subject.model)}</title><style>{CSS}</style></head>"
    yield "<body><main>"
    yield f"<h1>Latency of {escape(subject.model)}</h1>"
    size = " x ".join(str(side) for side in subject.input[1:])
    yield (
        f'<p class="dim">Folder {escape(subject.name)}: {subject.family}, '
        f"{subject.parameters / 1e6:.2f} M parameters, {subject.classes} classes, input {size}. "
        f"{escape(str(report.machine))}. {escape(report.created)}.</p>"
    )
    yield from _sections(report)
    yield "</main></body></html>"


def sections(report: Report) -> str:
    """Everything below the title, for a page that has style.RULES and its colours."""
    return "\n".join(_sections(report))


def _sections(report: Report) -> Iterator[str]:
    yield from _pick(report)
    if report.warnings or report.left_out:
        items = [*report.warnings, *(f"Not run: {reason}" for reason in report.left_out)]
        listed = "".join(f"<li>{escape(item)}</li>" for item in items)
        yield f'<div class="warn"><ul>{listed}</ul></div>'
    yield "<h2>Every artifact at batch 1</h2>"
    yield tables.overview(report)
    yield from _section("How good it is", quality_cards(report.subject.quality))
    yield from _section("Latency at batch 1", _latency(report))
    yield from _section("Accuracy against cost", _accuracy(report))
    yield from _section("Batch sizes", _batches(report))
    yield from _layers(report)
    yield from _details(report)


def _pick(report: Report) -> Iterator[str]:
    pick = report.recommendation
    matches = [e for e in report.entries if (e.file, e.runtime) == (pick.file, pick.runtime)]
    if not matches:
        words = f"<strong>{escape(pick.headline)}.</strong> {escape(pick.reason)}"
        yield f'<div class="pick none">{words}</div>'
        return
    entry = matches[0]
    latency = entry.first.end_to_end
    tiles = [
        (f"{entry.accuracy.top1:.2f} %", f"top-1 on {entry.accuracy.samples} images"),
        (f"{figure(latency.p50)} ms", "p50, batch 1"),
        (f"{figure(latency.p99)} ms", "p99, batch 1"),
        (f"{max(c.throughput for c in entry.closed):.0f}/s", "images, best batch"),
        (f"{entry.bytes / 1e6:.2f} MB", "file"),
    ]
    yield pick_card(pick.headline, tiles, pick.reason)


def pick_card(headline: str, tiles: Sequence[tuple[str, str]], reason: str) -> str:
    """What to ship: a headline, figures with their captions, and why. Texts are escaped here."""
    figures = "".join(f"<div><b>{escape(b)}</b><span>{escape(s)}</span></div>" for b, s in tiles)
    return (
        f'<div class="pick"><strong>{escape(headline)}</strong>'
        f'<div class="tiles">{figures}</div><p class="dim">{escape(reason)}</p></div>'
    )


def _section(title: str, cards: Iterator[str]) -> Iterator[str]:
    content = "".join(cards)
    if content:
        yield f'<h2>{title}</h2><div class="grid">{content}</div>'


def _latency(report: Report) -> Iterator[str]:
    entries = report.entries
    caption = "End to end. Solid line: median; dashed: p99."
    yield _card("Distribution", caption, rows.distribution(entries))
    stages = [(f"t{k}", stage.replace("_", " ")) for k, stage in enumerate(STAGES)]
    caption = "Stages of one request, in order."
    yield _card("Where the time goes", caption, rows.stage_split(entries), stages)
    if entries[0].poisson:
        caption = (
            "Dot: median; ring: p99. Poisson arrivals at a part of full load, queueing counted."
        )
        yield _card("Under load", caption, rows.arrivals(entries))


def _accuracy(report: Report) -> Iterator[str]:
    entries = report.entries
    caption = (
        "Up and left is better. Dashed: nothing measured here beats it. Ring: failed its gate."
    )
    names = _names(report)
    yield _card("Accuracy and latency", caption, curves.accuracy_latency(entries), names)
    files = {entry.file: colour(k) for k, entry in reversed([*enumerate(entries)])}
    legend = [(files[file], file) for file in dict.fromkeys(entry.file for entry in entries)]
    caption = "Each file once; its size is what a device downloads and holds."
    yield _card("Accuracy and size", caption, curves.accuracy_size(entries), legend)


def _batches(report: Report) -> Iterator[str]:
    entries = report.entries
    if any(len(entry.closed) > 1 for entry in entries):
        caption = "Images a second, end to end, one request after another."
        yield _card("Throughput", caption, curves.throughput(entries), _names(report))
        caption = "Median time until the whole batch is answered."
        yield _card("Latency of a batch", caption, curves.latency(entries), _names(report))


def _names(report: Report) -> list[tuple[str, str]]:
    return [(colour(k), entry.name) for k, entry in enumerate(report.entries)]


def _card(title: str, caption: str, drawing: str, legend: Sequence[tuple[str, str]] = ()) -> str:
    """A picture with its words; ``legend`` holds (colour, name)."""
    items = "".join(f'<span><i class="{c}"></i>{escape(name)}</span>' for c, name in legend)
    keys = f'<div class="legend">{items}</div>' if items else ""
    return (
        f'<div class="card"><h3>{escape(title)}</h3><p>{escape(caption)}</p>{drawing}{keys}</div>'
    )


def _layers(report: Report) -> Iterator[str]:
    if not any(entry.layers for entry in report.entries):
        return
    for title, grouping in (("operator", rows.by_operator), ("layer", list)):
        yield f'<h2>Time per {title}, batch 1</h2><div class="grid">'
        for k, entry in enumerate(report.entries):
            if entry.layers:
                yield _card(
                    entry.name, entry.layers_note, rows.layer_bars(grouping(entry.layers), k, 8)
                )
        yield "</div>"
    for entry in report.entries:
        if entry.layers:
            yield f"<details><summary>All layers of {escape(entry.name)}</summary>"
            yield tables.layers(entry)
            yield "</details>"


def _details(report: Report) -> Iterator[str]:
    yield "<h2>Details</h2>"
    for title, table in (
        ("Every series", tables.series(report)),
        ("Machine and versions", tables.machine(report)),
        ("How it was measured", tables.method(report)),
    ):
        yield f"<details><summary>{title}</summary>{table}</details>"
