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
    return _by_batch(
        entries, lambda closed: closed.throughput, "images/s", "Throughput by batch size"
    )


def latency(entries: Sequence[Entry]) -> str:
    """Median time of a whole batch by its size."""
    figure: Figure = lambda closed: closed.end_to_end.p50  # noqa: E731
    return _by_batch(entries, figure, "p50, ms a batch", "Latency by batch size")


def _by_batch(entries: Sequence[Entry], figure: Figure, unit: str, title: str) -> str:
    batches = sorted({closed.batch for entry in entries for closed in entry.closed})
    values = [figure(closed) for entry in entries for closed in entry.closed]
    axes = Axes(doubling(batches, LEFT, RIGHT), fitted(values, BOTTOM, TOP), "images a batch", unit)
    parts = [*axes.parts()]
    for k, entry in enumerate(entries):
        points = [(axes.x(c.batch), axes.y(figure(c))) for c in entry.closed]
        parts.append(path(points, f"curve s{colour(k)}"))
        for closed, (x, y) in zip(entry.closed, points, strict=True):
            tip = f"{entry.name}, batch {closed.batch}: {short(figure(closed))} {unit}"
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
    cost = [entry.first.end_to_end.p50 for entry in entries]
    return _accuracy(entries, cost, [*range(len(entries))], "p50 end to end, ms", "latency")


def accuracy_size(entries: Sequence[Entry]) -> str:
    """Top-1 against the size of the file, each file once."""
    first = {entry.file: k for k, entry in reversed([*enumerate(entries)])}
    index = sorted(first.values())
    files = [entries[k] for k in index]
    return _accuracy(files, [entry.bytes / 1e6 for entry in files], index, "file, MB", "size")


def _accuracy(
    entries: Sequence[Entry], cost: list[float], index: list[int], unit: str, cost_name: str
) -> str:
    tops = [entry.accuracy.top1 for entry in entries]
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
    for k, entry in enumerate(entries):
        hollow = "" if entry.status == "passed" else f" hollow s{colour(index[k])}"
        tip = f"{entry.name}: top-1 {tops[k]:.2f} %, {short(cost[k])} {unit.rpartition(' ')[2]}"
        parts.append(dot(axes.x(cost[k]), axes.y(tops[k]), colour(index[k]) + hollow, tip, 6))
    return picture(HEIGHT, parts, f"Accuracy against {cost_name}")
