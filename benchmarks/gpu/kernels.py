"""DFRA on the GPU: the Triton kernels beside the textbook form and beside the bounds."""

from __future__ import annotations

from functools import partial

import dfra
from machine import arithmetic
from results import Part, Row
from runner import Cases
from scale import Scale


def cases(scale: Scale, part: Part) -> Cases:
    """Every size by the textbook form and by the closed one."""
    return {
        f"{form} {batch}x{classes}": partial(figures, scale, form, batch, classes)
        for batch, classes in scale.dfra
        for form in ("textbook", "closed")
    }


def figures(scale: Scale, form: str, batch: int, classes: int) -> Row:
    """Milliseconds, MiB and bounds of one form at one size."""
    row = dfra.measure(form, batch, classes, scale.device, scale.threads())
    kind = arithmetic(bf16=False)
    return {"form": form, "batch": batch, "classes": classes, "arithmetic": kind, **row}
