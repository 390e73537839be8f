"""Pictures with two axes: batch sizes, and accuracy against what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..report import Closed, Entry
from .axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Axes
from .scale import doubling, fitted, short
from .svg import colour, dot, path, picture

Figure = Callable[[Closed], float]


def throughput(entries: Sequence[Entry]) -> str:
    """Images a second by batch size."""
    return _by_batch(entries, lambda one: one.throughput, "images/s", "Throughput by batch size")


def latency(entries: Sequence[Entry]) -> str:
    """Median time of a whole batch by its size."""
    figure: Figure = lambda one: one.end_to_end.p50  # noqa: E731
    return _by_batch(entries, figure, "p50, ms a batch", "Latency by batch size")


def _by_batch(entries: Sequence[Entry], figure: Figure, unit: str, title: str) -> str:
    batches = sorted({closed.batch for one in entries for closed in one.closed})
    values = [figure(closed) for one in entries for closed in one.closed]
    axes = Axes(doubling(batches, LEFT, RIGHT), fitted(values, BOTTOM, TOP), "images a batch", unit)
    parts = [*axes.parts()]
    for k, one in enumerate(entries):
        points = [(axes.x(c.batch), axes.y(figure(c))) for c in one.closed]
        parts.append(path(points, f"curve s{colour(k)}"))
        for closed, (x, y) in zip(one.closed, points, strict=True):
            tip = f"{one.name}, batch {closed.batch}: {short(figure(closed))} {unit}"
            parts.append(dot(x, y, colour(k), tip, 3.5))
    return picture(HEIGHT, parts, title)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of (cost, accuracy) that no other beats in both, by rising cost."""
    front: list[int] = []
    best = float("-inf")
    for k in sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1])):
        if points[k][1] > best:
            front.append(k)
            best = points[k][1]
    return front


def accuracy_latency(entries: Sequence[Entry]) -> str:
    """Top-1 against the median at batch 1, with the Pareto line."""
    cost = [one.first.end_to_end.p50 for one in entries]
    return _accuracy(entries, cost, [*range(len(entries))], "p50 end to end, ms", "latency")


def accuracy_size(entries: Sequence[Entry]) -> str:
    """Top-1 against the size of the file, each file once."""
    first = {one.file: k for k, one in reversed([*enumerate(entries)])}
    index = sorted(first.values())
    files = [entries[k] for k in index]
    return _accuracy(files, [one.bytes / 1e6 for one in files], index, "file, MB", "size")


def _accuracy(
    entries: Sequence[Entry], cost: list[float], index: list[int], unit: str, what: str
) -> str:
    tops = [one.accuracy.top1 for one in entries]
    axes = Axes(
        fitted(cost, LEFT + 8, RIGHT - 8), fitted(tops, BOTTOM, TOP, least=0.2), unit, "top-1, %"
    )
    front = pareto([*zip(cost, tops, strict=True)])
    steps: list[tuple[float, float]] = []
    for k in front:
        x, y = axes.x(cost[k]), axes.y(tops[k])
        steps += [(x, steps[-1][1]), (x, y)] if steps else [(x, BOTTOM), (x, y)]
    steps.append((RIGHT, steps[-1][1]))
    parts = [*axes.parts(), path(steps, "front")]
    for k, one in enumerate(entries):
        hollow = "" if one.status == "passed" else f" hollow s{colour(index[k])}"
        tip = f"{one.name}: top-1 {tops[k]:.2f} %, {short(cost[k])} {unit.rpartition(' ')[2]}"
        parts.append(dot(axes.x(cost[k]), axes.y(tops[k]), colour(index[k]) + hollow, tip, 6))
    return picture(HEIGHT, parts, f"Accuracy against {what}")
