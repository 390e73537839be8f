"""The pictures of a student's quality: confusion and reliability, and its surest mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..bundle.quality import Bin, Mistake, Quality, QualityTables

QUALITY, MISTAKES = "quality.png", "mistakes.png"
_MOST = 30  # classes in the confusion; of more, those with the most mistakes
_NUMBERS = 15  # up to so many classes the counts are written
_COLUMNS = 4
_LONGEST = 18  # characters of a name
_DPI = 110
_INK, _HIT, _MISS = "#1b1f24", "#2a78d6", "#d03b3b"


def draw_quality(path: Path, quality: Quality, tables: QualityTables) -> None:
    """Confusion on the left, reliability before and after the temperature on the right."""
    figure = _figure(13, 6)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _confusion(left, tables)
    _reliability(right, quality, tables)
    _save(figure, path)


def draw_mistakes(path: Path, mistakes: Sequence[Mistake], pictures: list[Image.Image]) -> None:
    """The pictures of the surest wrong answers with what they are and what was said."""
    rows = -(-len(mistakes) // _COLUMNS)
    figure = _figure(10, 2.9 * rows)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for place in axes:
        place.set_axis_off()
    for place, mistake, picture in zip(axes, mistakes, pictures, strict=False):
        place.imshow(np.asarray(picture), interpolation="nearest")
        said = f"says {_short(mistake.said)}, {100 * mistake.probability:.0f} %"
        place.set_title(f"{said}\nlabel {_short(mistake.label)}", fontsize=9, color=_INK)
    _save(figure, path)


def _confusion(axes: Any, tables: QualityTables) -> None:
    wrong: dict[str, int] = {row.label: 0 for row in tables.classes}
    for pair in tables.confused:
        for name in (pair.label, pair.said):
            wrong[name] = wrong.get(name, 0) + pair.images
    most = {*sorted(wrong, key=lambda name: -wrong[name])[:_MOST]}
    names = [name for name in wrong if name in most]
    place = {name: k for k, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)))
    for row in tables.classes:
        if row.label in place:
            counts[place[row.label], place[row.label]] = row.hits
    for pair in tables.confused:
        if pair.label in place and pair.said in place:
            counts[place[pair.label], place[pair.said]] = pair.images
    totals = {row.label: row.images for row in tables.classes}
    shares = counts / np.array([[totals.get(name, 1)] for name in names])
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = [_short(name) for name in names]
    axes.set_xticks(range(len(names)), ticks, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), ticks, fontsize=8)
    shown = "" if len(names) == len(wrong) else f"; the {len(names)} with the most mistakes"
    axes.set(xlabel="what the student said", ylabel="label", title=f"confusion{shown}")
    if len(names) <= _NUMBERS:
        for (y, x), count in np.ndenumerate(counts):
            if count:
                ink = "white" if shares[y, x] > 0.5 else _INK
                axes.text(x, y, f"{count:.0f}", ha="center", va="center", color=ink)


def _reliability(axes: Any, quality: Quality, tables: QualityTables) -> None:
    axes.plot(
        [0, 100], [0, 100], color="grey", linewidth=1, linestyle=":", label="as sure as right"
    )
    series = [(tables.plain, quality.plain.ece, "without temperature", _MISS)]
    if quality.fitted_on:
        series.append((tables.calibrated, quality.calibrated.ece, "with it, as answered", _HIT))
    for bins, ece, name, colour in series:
        label = f"{name}: off by {100 * ece:.1f} points"
        axes.plot(*_points(bins), marker="o", markersize=4, color=colour, label=label)
    axes.set(
        xlabel="probability of the named class, %",
        ylabel="part of such answers that is right, %",
        title=f"reliability on {quality.images} test images",
        xlim=(0, 100),
        ylim=(0, 101),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=9)


def _points(bins: Sequence[Bin]) -> tuple[list[float], list[float]]:
    return [100 * part.confidence for part in bins], [100 * part.accuracy for part in bins]


def _short(name: str) -> str:
    plain = name.replace("$", r"\$")  # no formula
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
