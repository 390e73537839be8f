"""SVG elements as text. Colours are classes, so that the page's style turns them light or dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

WIDTH = 380  # of every picture: readable at its own size on a phone and in three columns
COLOURS = 8


def colour(index: int) -> str:
    """Class of series number ``index``."""
    return f"c{index % COLOURS}"


def picture(height: float, parts: Iterable[str], title: str) -> str:
    """The drawing; ``title`` is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def text(x: float, y: float, content: str, kind: str = "tick", anchor: str = "start") -> str:
    """Words with their base line at (x, y)."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> str:
    """A filled rectangle; ``tip`` shows when the pointer rests on it."""
    box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"'
    return f'<rect {box} class="{kind}">{_tip(tip)}</rect>'


def path(points: Iterable[tuple[float, float]], kind: str, close: bool = False) -> str:
    """Straight strokes through the points."""
    strokes = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{strokes}{"Z" if close else ""}" class="{kind}"/>'


def dot(x: float, y: float, kind: str, tip: str = "", radius: float = 4) -> str:
    """A filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}">{_tip(tip)}</circle>'


def _tip(content: str) -> str:
    return f"<title>{escape(content)}</title>" if content else ""
