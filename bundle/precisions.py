"""The precisions that a student is exported in: the one table that everything else reads.

A new precision is a row here and a file of its name in ``export/precision/`` that writes its ONNX
file; ``targets.py`` says what has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Place = Literal["cpu", "cuda", "tensorrt"]


@dataclass(frozen=True)
class Precision:
    """One form of the student's numbers. The defaults claim nothing of it."""

    name: str
    width: int = 0  # bits of a number; of forms that are level the widest is shipped
    onnx: str = ""  # element type in ONNX
    words: tuple[str, ...] = ()  # further names of that type in libraries, in small letters
    gate: Mapping[str, float] = field(default_factory=dict)  # the default Gate
    note: str = ""  # for people who choose
    # What computes the ONNX file as proven; none: there is no ONNX file of it.
    runs_on: tuple[Place, ...] = ("cpu", "cuda", "tensorrt")
    form_of: str | None = None  # the precision whose arithmetic and gate it has, if not its own
    engine_source: str | None = None  # what TensorRT's engine of it is built from, if not its file
    capability: float = 0.0  # first compute capability of GPUs that have it

    @property
    def file(self) -> str:
        """Name of the ONNX file inside a bundle."""
        return "student.onnx" if self.name == "fp32" else f"student.{self.name}.onnx"

    @property
    def computes_in(self) -> str:
        """The precision of its products: ``int8`` for both forms of int8."""
        return self.form_of or self.name

    @property
    def built_from(self) -> str:
        """The precision of the ONNX file that TensorRT's engine of it is built from."""
        return self.engine_source or self.name


_INT8 = Precision(
    "int8", 8, "INT8", ("uint8",), {"max_drop": 1.0, "band": 3e-1}, "for CPUs",
    runs_on=("cpu", "cuda"),  # TensorRT takes symmetric quantisation only
    engine_source="int8-symmetric"
)  # fmt: skip
_ROWS = (
    Precision(
        "fp32", 32, "FLOAT", ("float32", "f32"),
        {"min_agreement": 100, "max_dlogit": 1e-3, "max_relative": 5e-5}, "always there"
    ),
    Precision(
        "fp16", 16, "FLOAT16", ("half", "f16"),
        {"max_drop": 0.2, "max_relative": 2e-2, "band": 2e-2}
    ),
    Precision(
        "bf16", 16, "BFLOAT16", (), {"max_drop": 0.2, "max_relative": 1e-1, "band": 1e-1},
        runs_on=("cuda", "tensorrt")  # does not load on a CPU
    ),
    _INT8,
    replace(
        _INT8, name="int8-symmetric", note="the form that TensorRT takes", form_of="int8",
        runs_on=("cpu", "cuda", "tensorrt"), engine_source=None
    ),
    replace(
        _INT8, name="int8-dynamic", form_of="int8", runs_on=(), engine_source=None,
        note="scales taken at each call, for phones",
    ),
    Precision(
        "fp8", 8, "FLOAT8E4M3FN", ("float8e5m2", "float8", "e4m3"),
        {"max_drop": 1.0, "band": 3e-1}, runs_on=("cuda", "tensorrt"), capability=8.9
    ),
)  # fmt: skip
PRECISIONS = {row.name: row for row in _ROWS}
_COMPUTED = [*dict.fromkeys(row.computes_in for row in _ROWS)]
COMPUTED = f"{', '.join(_COMPUTED[:-1])} or {_COMPUTED[-1]}"  # for a description


def precision_named(name: str) -> Precision:
    """The row of ``name``; for what a newer program wrote, one that claims nothing."""
    return PRECISIONS.get(name, Precision(name))


def precision_of_type(type_name: str) -> str | None:
    """``fp16`` for FLOAT16, Half or float16, whichever library says it; None: no precision's."""
    word = type_name.lower()
    rows = PRECISIONS.values()
    return next((r.computes_in for r in rows if word in (r.name, r.onnx.lower(), *r.words)), None)


def by_width(type_names: Iterable[str]) -> list[str]:
    """The precisions of the types, each once, the widest first; of equal width, as in the table."""
    names = {precision_of_type(type_name) for type_name in type_names}
    return sorted((n for n in PRECISIONS if n in names), key=lambda n: -PRECISIONS[n].width)


def listed(quote: str = "") -> str:
    """Every precision with its note, for a help text."""
    notes = ((row.name, f" ({row.note})" if row.note else "") for row in PRECISIONS.values())
    return ", ".join(f"{quote}{name}{quote}{note}" for name, note in notes)
