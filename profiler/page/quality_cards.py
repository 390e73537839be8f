"""What the student is worth class by class, from its bundle: latency alone chooses badly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from ...bundle.quality import Quality


def quality_cards(quality: Quality | None) -> Iterator[str]:
    """A card each for classes, mix-ups and probabilities; none of an older bundle."""
    if quality is None:
        return
    words = f"Of {quality.images} test images, with 95 % intervals (Wilson)."
    rows = [
        (
            accuracy.label,
            str(accuracy.images),
            f"{accuracy.top1:.1f}",
            f"{accuracy.low:.1f} to {accuracy.high:.1f}",
        )
        for accuracy in quality.weakest
    ]
    yield _card("Weakest classes", words, ("class", "images", "top-1 %", "interval"), rows)
    if quality.confused:
        pairs = [(pair.label, pair.said, str(pair.images)) for pair in quality.confused]
        yield _card("Most confused", "Images of a pair.", ("label", "called", "images"), pairs)
    yield _card(
        "Probabilities",
        f"{quality.lines()[-1]}.",
        ("", "ECE, points", "loss", "mean %"),
        [
            (name, f"{100 * t.ece:.1f}", f"{t.loss:.3f}", f"{100 * t.confidence:.1f}")
            for name, t in (("plain", quality.plain), ("as answered", quality.calibrated))
        ],
    )


def _card(title: str, words: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in cells)}</tr>" for cells in rows
    )
    return (
        f'<div class="card"><h3>{escape(title)}</h3><p>{escape(words)}</p><div class="scroll">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )
