"""The confusion picture: rows are labels, columns what the student said."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from .scoring import Scores

_MAX_CLASSES = 30  # classes in the picture; of more, those with the most mistakes
_NUMBERS = 15  # up to so many classes the counts are written
_SIDE = 360.0


def confusion_picture(scores: Scores) -> str:
    """An SVG drawing; empty where no label is known."""
    counts = scores.confusion()
    class_indices = np.flatnonzero(counts.sum(0) + counts.sum(1))
    if not len(class_indices):
        return ""
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diagonal(counts)
    classes = np.sort(sorted(class_indices, key=lambda k: -int(wrong[k]))[:_MAX_CLASSES])
    caption = f"Confusion of {len(classes)} classes: rows are labels, columns what was said"
    if len(classes) < len(class_indices):
        caption += f"; the {len(classes)} of {len(class_indices)} with the most mistakes"
    names = [scores.labels[k] for k in classes]
    drawing = "".join(_drawing(counts[np.ix_(classes, classes)], names))
    margin = _margin(names)
    size = f"0 0 {margin + _SIDE + 2:.0f} {margin + _SIDE + 2:.0f}"
    return (
        f'<figure class="md-figure"><svg class="md-confusion" viewBox="{size}" role="img" '
        f'aria-label="{escape(caption)}">{drawing}</svg><figcaption>{escape(caption)}.</figcaption>'
        "</figure>"
    )


def _margin(names: list[str]) -> float:
    return 14 + 6.2 * min(max(len(name) for name in names), 16)


def _drawing(counts: np.ndarray, names: list[str]) -> Iterator[str]:
    margin, step = _margin(names), _SIDE / len(names)
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    size = min(12.0, 0.62 * step)
    for row, name in enumerate(names):
        short = escape(name if len(name) <= 16 else f"{name[:15]}…")
        middle = margin + (row + 0.5) * step
        place = f'x="{margin - 6:.1f}" y="{middle + size / 3:.1f}" text-anchor="end"'
        yield f'<text {place} font-size="{size:.1f}">{short}</text>'
        turn = f'transform="translate({middle + size / 3:.1f} {margin - 6:.1f}) rotate(-90)"'
        yield f'<text {turn} font-size="{size:.1f}">{short}</text>'
        for column, prediction in enumerate(names):
            count = int(counts[row, column])
            kind = "md-hit" if row == column else "md-miss"
            opacity = 0.0 if not count else 0.15 + 0.85 * count / int(totals[row, 0])
            x, y = margin + column * step, margin + row * step
            tip = escape(f"{name} called {prediction}: {count}")
            yield (
                f'<rect class="md-cell" x="{x:.1f}" y="{y:.1f}" width="{step:.1f}" '
                f'height="{step:.1f}"><title>{tip}</title></rect>'
            )
            if count:
                yield (
                    f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{step:.1f}" '
                    f'height="{step:.1f}" opacity="{opacity:.2f}"><title>{tip}</title></rect>'
                )
                if len(names) <= _NUMBERS:
                    centre = f'x="{x + step / 2:.1f}" y="{y + step / 2 + 4:.1f}"'
                    ink = "md-on" if opacity > 0.6 else ""
                    yield f'<text class="{ink}" {centre} text-anchor="middle" font-size="12">'
                    yield f"{count}</text>"
