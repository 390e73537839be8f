"""Pieces of HTML that every tab draws with; whatever comes from outside is escaped here."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image

from ..bundle.preprocess import Pixels


def notice(text: str, kind: str = "info") -> str:
    """A sentence in a box: ``info``, ``good``, ``warn`` or ``bad``; screen readers say it."""
    role = "alert" if kind == "bad" else "status"
    return f'<div class="md-notice md-{kind}" role="{role}">{escape(text)}</div>'


def chip(text: str, kind: str = "") -> str:
    """A short label with a coloured ground."""
    return f'<span class="md-chip {f"md-{kind}" if kind else ""}">{escape(text)}</span>'


def cell(text: str, kind: str = "", tip: str = "") -> str:
    """One table cell."""
    classes = f' class="{kind}"' if kind else ""
    title = f' title="{escape(tip)}"' if tip else ""
    return f"<td{classes}{title}>{escape(text)}</td>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str, kind: str = "") -> str:
    """A table that scrolls sideways by itself; ``rows`` hold finished cells."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        f'<div class="md-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="md-table {kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, one a line."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="md-facts">{items}</dl>'


def tiles(items: Iterable[tuple[str, str]]) -> str:
    """Large figures, each with the words that say what it is."""
    content = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in items
    )
    return f'<div class="md-tiles">{content}</div>'


def picture(pixels: Pixels, words: str, side: int) -> str:
    """A small RGB picture inside the page, enlarged without smoothing."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img class="md-pixels" width="{side}" height="{side}" alt="{escape(words)}" '
        f'src="data:image/png;base64,{data}">'
    )


def percent(share: float) -> str:
    """0 to 1 as per cent with one digit, never rounded up to certainty nor down to nothing."""
    value = 100 * share
    if 99.95 <= value < 100:
        return "> 99.9 %"
    if 0 < value < 0.05:
        return "< 0.1 %"
    return f"{value:.1f} %"


def milliseconds(seconds: float) -> str:
    """Three digits at most."""
    value = 1000 * seconds
    if value >= 100:
        return f"{value:.0f} ms"
    return f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"
