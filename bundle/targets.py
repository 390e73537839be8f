"""What runs an artifact: the one table of the targets that export writes for.

A new target is a row here, a file in ``export/`` that ``export/kinds.py`` names, and a row of
``runtimes/runtime_kinds.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .engine import FORMAT, RTX
from .precisions import PRECISIONS

PHONE = "x86 proves the file, not the phone's kernels"
_ONNX = tuple(name for name, row in PRECISIONS.items() if row.runs_on)


@dataclass(frozen=True)
class Target:
    """One thing that runs artifacts; its name is ``format`` of a manifest's artifact."""

    name: str
    precisions: tuple[str, ...]  # that it has
    note: str = ""  # for people who choose
    caveat: str = ""  # what a proof on the exporting machine does not reach

    def lacks(self, precision: str) -> str:
        """Why there is no artifact of ``precision`` for it, and what there is."""
        why = ""
        if self.caveat and precision.startswith("int8"):
            why = " (static int8 is not what its file computes; scales are taken at each call)"
        return f"{self.name} has no {precision}{why}, only {', '.join(self.precisions)}"


_ROWS = (
    Target("onnx", _ONNX),
    Target(FORMAT, _ONNX, "an engine for this machine's GPU"),
    Target(RTX, _ONNX, "one for RTX cards, built on any machine and not run"),
    Target("openvino", ("fp32", "fp16"), "OpenVINO's own files; fp16: of the weights alone"),
    Target("executorch", ("fp32", "int8-dynamic"), "a .pte for phones", PHONE),
    Target("litert", ("fp32", "int8-dynamic"), "a .tflite for phones", PHONE),
)
TARGETS = {row.name: row for row in _ROWS}
FORMATS = tuple(name for name in TARGETS if name != RTX)  # of artifacts: what is run


def listed_targets(quote: str = "") -> str:
    """Every target with its note, for a help text."""
    notes = ((row.name, f" ({row.note})" if row.note else "") for row in TARGETS.values())
    return ", ".join(f"{quote}{name}{quote}{note}" for name, note in notes)
