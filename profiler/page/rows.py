"""Pictures with a row an artifact: distribution, stages, arrivals, layers.

The words stand above each row, so that long names have the whole width and nothing overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..figures import figure
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
    samples = [_samples(one.first) / 1e6 for one in entries]
    ends = [nearest_rank(s, p) for s in samples for p in (0.5, 99.5)]
    scale = fitted(ends, _LEFT, _RIGHT)
    bottom = _TOP + _ROW * len(entries)
    parts = [*_frame(scale, bottom, "ms end to end, batch 1")]
    for k, (one, found) in enumerate(zip(entries, samples, strict=True)):
        summary, base = one.first.end_to_end, _TOP + _ROW * (k + 1) - 4
        told = f"p50 {figure(summary.p50)}, p99 {figure(summary.p99)} ms"
        parts += _words(k, one.name, told)
        outline = _density(found, scale, base)
        parts.append(path(outline, f"{colour(k)} area", close=True))
        for percent, kind in ((50, "mark"), (99, "mark thin")):
            x = scale(nearest_rank(found, percent))
            parts.append(line(x, base - 30, x, base, f"{kind} s{colour(k)}"))
    return picture(bottom + 40, parts, "Distribution of the latency of each artifact")


def stage_split(entries: Sequence[Entry]) -> str:
    """Mean time of each stage at batch 1, one after another; they add up to end to end."""
    scale = from_zero(max(one.first.end_to_end.mean for one in entries), _LEFT, _RIGHT)
    bottom = _TOP + _ROW * len(entries)
    parts = [*_frame(scale, bottom, "ms, mean at batch 1")]
    for k, one in enumerate(entries):
        parts += _words(k, one.name, f"{figure(one.first.end_to_end.mean)} ms")
        at, y = 0.0, _TOP + _ROW * k + 24
        for n, stage in enumerate(STAGES):
            mean = one.first.summary[stage].mean
            tip = f"{stage.replace('_', ' ')}: {short(mean)} ms"
            x, width = scale(at), scale(at + mean) - scale(at)
            parts.append(rect(x, y, width, _BAR, f"t{n}", tip))
            at += mean
    return picture(bottom + 40, parts, "Mean time of each stage of a request")


def arrivals(entries: Sequence[Entry]) -> str:
    """Median to p99, one after another and under Poisson arrivals."""
    loads = [one.load for one in entries[0].poisson]
    rows = [(one, load) for one in entries for load in (None, *loads)]
    ends = [value for one, load in rows for value in _p50_p99(one, load)]
    scale = fitted(ends, _LEFT + 96, _RIGHT)
    height = 24 + 16.0 * (1 + len(loads))
    bottom = _TOP + height * len(entries)
    parts = [*_frame(scale, bottom, "ms, from arrival to answer")]
    for k, one in enumerate(entries):
        top = _TOP + height * k
        parts.append(text(_LEFT, top + 14, one.name, "label"))
        for n, load in enumerate((None, *loads)):
            y = top + 30 + 16 * n
            p50, p99 = _p50_p99(one, load)
            name = "one at a time" if load is None else f"Poisson {load:.0%}"
            tip = f"{name}: p50 {short(p50)} ms, p99 {short(p99)} ms"
            parts.append(text(_LEFT, y + 4, name))
            parts.append(line(scale(p50), y, scale(p99), y, f"range s{colour(k)}"))
            parts.append(dot(scale(p50), y, colour(k), tip))
            parts.append(dot(scale(p99), y, f"{colour(k)} hollow s{colour(k)}", tip, 3.5))
    return picture(bottom + 40, parts, "Latency under load")


def layer_bars(layers: Sequence[Layer], index: int, most: int = 12) -> str:
    """The layers that take longest, and all others together."""
    shown, rest = layers[:most], layers[most:]
    scale = from_zero(max(one.share for one in shown), _LEFT, _RIGHT)
    bottom = _TOP + 34.0 * len(shown) + (22 if rest else 0)
    parts = [*_frame(scale, bottom, "% of all layers' time")]
    for k, one in enumerate(shown):
        y = _TOP + 34 * k
        tip = f"{short(one.milliseconds)} ms"
        parts.append(text(_LEFT, y + 13, _cut(_layer_name(one), 44), "label"))
        parts.append(text(_RIGHT, y + 13, f"{one.share:.1f} %", "tick", "end"))
        parts.append(rect(_LEFT, y + 18, scale(one.share) - _LEFT, 9, colour(index), tip))
    if rest:  # without a bar: hundreds of small ones would dwarf those that are named
        parts.append(text(_LEFT, bottom - 8, f"{len(rest)} others", "label"))
        share = sum(one.share for one in rest)
        parts.append(text(_RIGHT, bottom - 8, f"{share:.1f} %", "tick", "end"))
    return picture(bottom + 40, parts, "Layers that take longest")


def by_operator(layers: Sequence[Layer]) -> list[Layer]:
    """One row an operator and precision, longest first: what hundreds of small layers add up to."""
    rows: dict[tuple[str, str], Layer] = {}
    for one in layers:
        held = rows.get((one.kind, one.precision))
        rows[one.kind, one.precision] = Layer(
            name="",
            kind=one.kind or one.name,
            precision=one.precision,
            milliseconds=one.milliseconds + (held.milliseconds if held else 0),
            share=min(one.share + (held.share if held else 0), 100.0),
        )
    return sorted(rows.values(), key=lambda row: -row.milliseconds)


def _samples(closed: Closed) -> np.ndarray:
    return np.concatenate([one.samples(END_TO_END) for one in closed.rounds])


def _p50_p99(one: Entry, load: float | None) -> tuple[float, float]:
    if load is None:
        return one.first.end_to_end.p50, one.first.end_to_end.p99
    found = next(arrived.latency for arrived in one.poisson if arrived.load == load)
    return found.p50, found.p99


def _frame(scale: Scale, bottom: float, title: str) -> Iterator[str]:
    yield from x_ticks(scale, _TOP, bottom)
    yield line(scale.start, bottom, scale.end, bottom, "axis")
    yield text(_RIGHT, bottom + 34, title, "title", "end")


def _words(row: int, name: str, told: str) -> list[str]:
    y = _TOP + _ROW * row + 14
    room = 59 - len(told)
    return [
        text(_LEFT, y, _cut(name, room), "label"),
        text(_RIGHT, y, told, "tick", "end"),
    ]


def _density(found: np.ndarray, scale: Scale, base: float) -> list[tuple[float, float]]:
    """Outline of a smoothed histogram over the picture's width, 26 high."""
    bins = 160
    places = np.array([scale(value) for value in np.clip(found, scale.low, scale.high)])
    counts, edges = np.histogram(places, bins, (scale.start, scale.end))
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    heights = 26 * smooth / smooth.max()
    middles = (edges[:-1] + edges[1:]) / 2
    kept = np.flatnonzero(heights > 0.05)
    first, last = int(kept[0]), int(kept[-1])
    points = [(float(middles[k]), base - float(heights[k])) for k in range(first, last + 1)]
    return [(points[0][0], base), *points, (points[-1][0], base)]


def _layer_name(one: Layer) -> str:
    return " · ".join(part for part in (one.kind, one.module or one.name, one.precision) if part)


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
