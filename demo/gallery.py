"""The bundle's own images as buttons with names: with a mouse, a finger, a keyboard or by ear."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ..bundle.preprocess import Pixels
from .html import picture

_SCRIPT = """
element.addEventListener("click",event=>{
  const button=event.target.closest("button");
  if(button)trigger("chosen",{number:Number(button.dataset.number)})});
"""


def gallery(images: Sequence[Pixels], labels: Sequence[str]) -> Any:
    """The component; its event ``chosen`` carries ``number``, the position of the image."""
    import gradio

    buttons = "".join(
        f'<button type="button" data-number="{k}" title="{escape(label)}" '
        f'aria-label="Test image {k + 1}: {escape(label)}">{picture(pixels, "", 64)}</button>'
        for k, (pixels, label) in enumerate(zip(images, labels, strict=True))
    )
    caption = "Images of the test split, which training never saw:"
    return gradio.HTML(
        f'<p class="md-dim">{caption}</p><div class="md-gallery">{buttons}</div>',
        js_on_load=_SCRIPT,
        elem_id="md-examples",
    )
