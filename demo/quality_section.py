"""The student class by class, its confusion and its surest mistakes: the end of the Proof tab."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape

from ..bundle.quality import Quality
from ..bundle.reader import Bundle
from .html import cell, notice, table

_CAPTIONS = {
    "quality.png": "Left: what each class was called. Right: how often answers of a probability "
    "are right, without the temperature and with it.",
    "mistakes.png": "The wrong answers that the student was surest of. Look at the labels too.",
}


def quality_section(bundle: Bundle) -> str:
    """Tables and pictures of the quality; empty for a bundle without them."""
    quality = bundle.manifest.quality
    if quality is None:
        return ""
    return "".join((*_words(quality), *_pictures(bundle)))


def _words(quality: Quality) -> Iterator[str]:
    yield f"<h2>Class by class, on {quality.images} test images</h2>"
    yield notice(f"{quality.lines()[-1]}.")
    yield '<div class="md-grid">'
    rows = [
        (
            cell(accuracy.label),
            cell(str(accuracy.images)),
            cell(f"{accuracy.top1:.1f}"),
            cell(f"{accuracy.low:.1f} to {accuracy.high:.1f}"),
        )
        for accuracy in quality.weakest
    ]
    heads = ("class", "images", "top-1 %", "95 % interval")
    yield table(heads, rows, "The weakest classes", "md-names")
    if quality.confused:
        pairs = [(cell(p.label), cell(p.said), cell(str(p.images))) for p in quality.confused]
        yield table(("label", "called", "images"), pairs, "Most confused", "md-names")
    yield "</div>"


def _pictures(bundle: Bundle) -> Iterator[str]:
    for entry in bundle.manifest.quality_files:
        if entry.file in _CAPTIONS:
            caption = escape(_CAPTIONS[entry.file])
            data = base64.b64encode(bundle.file(entry).read_bytes()).decode()
            yield (
                '<figure class="md-figure" style="max-width:none"><img style="width:100%" '
                f'alt="{caption}" src="data:image/png;base64,{data}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
