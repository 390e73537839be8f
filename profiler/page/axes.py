"""The frame of a picture with two axes: grid, ticks with numbers, titles with units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .scale import Scale, short
from .svg import WIDTH, line, text

LEFT, RIGHT, TOP, BOTTOM = 44.0, WIDTH - 12.0, 26.0, 226.0
HEIGHT = 266


@dataclass(frozen=True)
class Axes:
    """x and y with their titles."""

    x: Scale
    y: Scale
    x_title: str
    y_title: str

    def parts(self) -> Iterator[str]:
        """Everything but the data."""
        yield text(2, 12, self.y_title, "title")
        yield text(RIGHT, HEIGHT - 4, self.x_title, "title", "end")
        for value in self.y.ticks:
            y = self.y(value)
            yield line(LEFT, y, RIGHT, y)
            yield text(LEFT - 6, y + 4, short(value), "tick", "end")
        yield from x_ticks(self.x, TOP, BOTTOM)
        yield line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")


def x_ticks(scale: Scale, top: float, bottom: float) -> Iterator[str]:
    """Vertical grid and numbers below it; a number too near to the one before is left out."""
    last = -1e9
    for value in scale.ticks:
        x, label = scale(value), short(value)
        yield line(x, top, x, bottom)
        if x - last >= 9 * max(len(label), 2):
            yield text(x, bottom + 16, label, "tick", "middle")
            last = x
