"""A comparison's pictures: accuracy by method, and accuracy against what a student costs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ..bundle.atomic import write_bytes
from .results import PairResult, Results

_MUTED = "#9aa4b1"
_FOCUS = "#d1495b"
_PALETTE = (
    *("#2e5077", "#4da1a9", "#79b473", "#c9a227", "#8e6c8a", "#6b7a8f", "#b07d62"),
    *("#e08e45", "#a3c4dc", "#3f704d", "#d7a3c0", "#5a4a3f", "#b8b8b8"),
)


def draw(results: Results, folder: Path) -> None:
    """Write accuracy_by_method.png and accuracy_by_cost.png."""
    write_bytes(folder / "accuracy_by_method.png", _by_method(results))
    write_bytes(folder / "accuracy_by_cost.png", _by_cost(results))


def _by_method(results: Results) -> bytes:
    """A group of bars a pair, a bar a method, a dot a seed, a line for the teacher."""
    methods, pairs = results.matrix.methods, results.pairs
    width = 0.8 / len(methods)
    figure, axes = _figure(max(6.4, 0.34 * len(pairs) * len(methods) + 2.2), 4.2)
    for column, method in enumerate(methods):
        offset = (column - (len(methods) - 1) / 2) * width
        scored = [(row, s) for row, pair in enumerate(pairs) if (s := pair.score(method))]
        positions = [row + offset for row, _ in scored]
        means = [score.mean for _, score in scored]
        colour = _colour(results, column)
        axes.bar(positions, means, width * 0.92, color=colour, label=method, zorder=2)
        for x, (_, score) in zip(positions, scored, strict=True):
            axes.plot([x] * len(score.top1), score.top1, ".", color="black", ms=4, zorder=3)
    for row, pair in enumerate(pairs):
        if pair.teacher_top1 is not None:
            label = "teacher" if row == 0 else None
            axes.hlines(
                pair.teacher_top1, row - 0.45, row + 0.45, _MUTED, "dashed", label=label, zorder=1
            )
    axes.set_xticks(range(len(pairs)), [f"{p.teacher or ''}\n-> {p.student}" for p in pairs])
    axes.set_ylabel("test top-1, per cent")
    axes.set_title(f"{results.matrix.name}: bars are means, dots are seeds", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def _by_cost(results: Results) -> bytes:
    """Every pair's students against parameters and, where measured, milliseconds an image."""
    timed = any(pair.milliseconds for pair in results.pairs)
    figure, axes = _figure(8.6 if timed else 5.2, 4.2, columns=2 if timed else 1)
    panels = list(axes) if timed else [axes]
    for panel, cost in zip(panels, ("parameters", "milliseconds"), strict=False):
        for column, method in enumerate(results.matrix.methods):
            points = [
                (_cost(pair, cost), score.mean)
                for pair in results.pairs
                if (score := pair.score(method)) and _cost(pair, cost)
            ]
            if points:
                size = 52 if method == results.matrix.focus else 28
                colour = _colour(results, column)
                panel.scatter(*zip(*points, strict=True), s=size, color=colour, label=method)
        for pair in results.pairs:
            if (x := _cost(pair, cost)) is not None:
                best = max(score.mean for score in pair.scores)
                panel.annotate(
                    pair.student,
                    (x, best),
                    textcoords="offset points",
                    xytext=(0, 8),
                    ha="center",
                    fontsize=7,
                )
        panel.margins(0.18)
        panel.set_ylabel("test top-1, per cent")
    panels[0].set_xlabel("parameters, millions")
    if timed:
        panels[1].set_xlabel("ms an image, batch 1, ONNX Runtime CPU")
    panels[-1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def _cost(pair: PairResult, cost: str) -> float | None:
    return pair.parameters / 1e6 if cost == "parameters" else pair.milliseconds


def _colour(results: Results, column: int) -> str:
    if results.matrix.methods[column] == results.matrix.focus:
        return _FOCUS
    return _PALETTE[column % len(_PALETTE)]


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for panel in axes if columns > 1 else [axes]:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e5e8ec", zorder=0)
        panel.set_axisbelow(True)
    return figure, axes


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    return data.getvalue()
