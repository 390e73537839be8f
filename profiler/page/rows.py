"""Pictures with a row an artifact: distribution, stages, arrivals, layers.

The words stand above each row, so that long names have the whole width and nothing overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...bundle.wording import figure
from ..percentiles import nearest_rank
from ..report import Closed, Entry, Layer
from ..request_stages import END_TO_END, STAGES
from .axes import x_ticks
from .scale import Scale, fitted, from_zero, short
from .svg import WIDTH, colour, dot, line, path, picture, rect, text

_LEFT, _RIGHT = 4.0, WIDTH - 8.0
_ROW = 52.0
_BAR = 18.0
_TOP = 6.0


def distribution(entries: Sequence[Entry]) -> str:
    """Density of the end-to-end latency at batch 1, with p50 and p99; logarithmic when wide."""
    samples = [_samples(entry.first) / 1e6 for entry in entries]
    ends = [nearest_rank(s, p) for s in samples for p in (0.5, 99.5)]
    scale = fitted(ends, _LEFT, _RIGHT)
    bottom = _TOP + _ROW * len(entries)
    parts = [*_frame(scale, bottom, "ms end to end, batch 1")]
    for k, (entry, latencies) in enumerate(zip(entries, samples, strict=True)):
        summary, base = entry.first.end_to_end, _TOP + _ROW * (k + 1) - 4
        percentiles = f"p50 {figure(summary.p50)}, p99 {figure(summary.p99)} ms"
        parts += _words(k, entry.name, percentiles)
        outline = _density(latencies, scale, base)
        parts.append(path(outline, f"{colour(k)} area", close=True))
        for percent, kind in ((50, "mark"), (99, "mark thin")):
            x = scale(nearest_rank(latencies, percent))
            parts.append(line(x, base - 30, x, base, f"{kind} s{colour(k)}"))
    return picture(bottom + 40, parts, "Distribution of the latency of each artifact")


def stage_split(entries: Sequence[Entry]) -> str:
    """Mean time of each stage at batch 1, one after another; they add up to end to end."""
    scale = from_zero(max(entry.first.end_to_end.mean for entry in entries), _LEFT, _RIGHT)
    bottom = _TOP + _ROW * len(entries)
    parts = [*_frame(scale, bottom, "ms, mean at batch 1")]
    for k, entry in enumerate(entries):
        parts += _words(k, entry.name, f"{figure(entry.first.end_to_end.mean)} ms")
        begin, y = 0.0, _TOP + _ROW * k + 24
        for n, stage in enumerate(STAGES):
            mean = entry.first.summary[stage].mean
            tip = f"{stage.replace('_', ' ')}: {short(mean)} ms"
            x, width = scale(begin), scale(begin + mean) - scale(begin)
            parts.append(rect(x, y, width, _BAR, f"t{n}", tip))
            begin += mean
    return picture(bottom + 40, parts, "Mean time of each stage of a request")


def arrivals(entries: Sequence[Entry]) -> str:
    """Median to p99, one after another and under Poisson arrivals."""
    loads = [poisson.load for poisson in entries[0].poisson]
    rows = [(entry, load) for entry in entries for load in (None, *loads)]
    ends = [value for entry, load in rows for value in _p50_p99(entry, load)]
    scale = fitted(ends, _LEFT + 96, _RIGHT)
    height = 24 + 16.0 * (1 + len(loads))
    bottom = _TOP + height * len(entries)
    parts = [*_frame(scale, bottom, "ms, from arrival to answer")]
    for k, entry in enumerate(entries):
        top = _TOP + height * k
        parts.append(text(_LEFT, top + 14, entry.name, "label"))
        for n, load in enumerate((None, *loads)):
            y = top + 30 + 16 * n
            p50, p99 = _p50_p99(entry, load)
            name = "one at a time" if load is None else f"Poisson {load:.0%}"
            tip = f"{name}: p50 {short(p50)} ms, p99 {short(p99)} ms"
            parts.append(text(_LEFT, y + 4, name))
            parts.append(line(scale(p50), y, scale(p99), y, f"range s{colour(k)}"))
            parts.append(dot(scale(p50), y, colour(k), tip))
            parts.append(dot(scale(p99), y, f"{colour(k)} hollow s{colour(k)}", tip, 3.5))
    return picture(bottom + 40, parts, "Latency under load")


def layer_bars(layers: Sequence[Layer], index: int, limit: int = 12) -> str:
    """The layers that take longest, and all others together."""
    head, tail = layers[:limit], layers[limit:]
    scale = from_zero(max(layer.share for layer in head), _LEFT, _RIGHT)
    bottom = _TOP + 34.0 * len(head) + (22 if tail else 0)
    parts = [*_frame(scale, bottom, "% of all layers' time")]
    for k, layer in enumerate(head):
        y = _TOP + 34 * k
        tip = f"{short(layer.milliseconds)} ms"
        parts.append(text(_LEFT, y + 13, _cut(_layer_name(layer), 44), "label"))
        parts.append(text(_RIGHT, y + 13, f"{layer.share:.1f} %", "tick", "end"))
        parts.append(rect(_LEFT, y + 18, scale(layer.share) - _LEFT, 9, colour(index), tip))
    if tail:  # without a bar: hundreds of small ones would dwarf those that are named
        parts.append(text(_LEFT, bottom - 8, f"{len(tail)} others", "label"))
        share = sum(layer.share for layer in tail)
        parts.append(text(_RIGHT, bottom - 8, f"{share:.1f} %", "tick", "end"))
    return picture(bottom + 40, parts, "Layers that take longest")


def by_operator(layers: Sequence[Layer]) -> list[Layer]:
    """One row an operator and precision, longest first: what hundreds of small layers add up to."""
    rows: dict[tuple[str, str], Layer] = {}
    for layer in layers:
        total = rows.get((layer.kind, layer.precision))
        rows[layer.kind, layer.precision] = Layer(
            name="",
            kind=layer.kind or layer.name,
            precision=layer.precision,
            milliseconds=layer.milliseconds + (total.milliseconds if total else 0),
            share=min(layer.share + (total.share if total else 0), 100.0),
        )
    return sorted(rows.values(), key=lambda row: -row.milliseconds)


def _samples(closed: Closed) -> np.ndarray:
    return np.concatenate([part.samples(END_TO_END) for part in closed.rounds])


def _p50_p99(entry: Entry, load: float | None) -> tuple[float, float]:
    if load is None:
        return entry.first.end_to_end.p50, entry.first.end_to_end.p99
    latency = next(arrived.latency for arrived in entry.poisson if arrived.load == load)
    return latency.p50, latency.p99


def _frame(scale: Scale, bottom: float, title: str) -> Iterator[str]:
    yield from x_ticks(scale, _TOP, bottom)
    yield line(scale.start, bottom, scale.end, bottom, "axis")
    yield text(_RIGHT, bottom + 34, title, "title", "end")


def _words(row: int, name: str, figures: str) -> list[str]:
    y = _TOP + _ROW * row + 14
    room = 59 - len(figures)
    return [
        text(_LEFT, y, _cut(name, room), "label"),
        text(_RIGHT, y, figures, "tick", "end"),
    ]


def _density(latencies: np.ndarray, scale: Scale, base: float) -> list[tuple[float, float]]:
    """Outline of a smoothed histogram over the picture's width, 26 high."""
    bins = 160
    places = np.array([scale(value) for value in np.clip(latencies, scale.low, scale.high)])
    counts, edges = np.histogram(places, bins, (scale.start, scale.end))
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    heights = 26 * smooth / smooth.max()
    middles = (edges[:-1] + edges[1:]) / 2
    indices = np.flatnonzero(heights > 0.05)
    first, last = int(indices[0]), int(indices[-1])
    points = [(float(middles[k]), base - float(heights[k])) for k in range(first, last + 1)]
    return [(points[0][0], base), *points, (points[-1][0], base)]


def _layer_name(layer: Layer) -> str:
    return " · ".join(
        part for part in (layer.kind, layer.module or layer.name, layer.precision) if part
    )


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
