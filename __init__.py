"""Distil a large image classifier into a small one, export it, and prove what ships.

    import mldr_deploy as md

    md.distill_and_export(data="photos/", out="runs/photos")
    md.load("runs/photos/bundle").classify("cat.jpg")

`docs/python.md` lists what there is. The folders of this package are its rooms: ``CONTRIBUTING.md``
has the map, ``docs/design.md`` what they rely on. An import never runs upward
(``tests/test_floors.py`` holds the table); what is offered here is loaded when it is asked for.
"""

import sys as _sys
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from .api.jobs import check, choose, compare, distill_and_export, export, profile
    from .api.loaded_bundle import Classifier, LabelProbability, PictureClasses, load
    from .errors import MldrError, Unavailable

__version__ = "0.1.0"

_OFFERED = {
    **dict.fromkeys(
        ("Classifier", "LabelProbability", "PictureClasses", "load"), "api.loaded_bundle"
    ),
    **dict.fromkeys(
        ("check", "choose", "compare", "distill_and_export", "export", "profile"), "api.jobs"
    ),
    **dict.fromkeys(("MldrError", "Unavailable"), "errors"),
}

__all__ = [
    "Classifier",
    "LabelProbability",
    "MldrError",
    "PictureClasses",
    "Unavailable",
    "check",
    "choose",
    "compare",
    "distill_and_export",
    "export",
    "load",
    "profile",
]


def __getattr__(name: str) -> _Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f".{_OFFERED[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Room(_ModuleType):
    """A folder of this package that is also the function of its name."""

    def __call__(self, *arguments: _Any, **keywords: _Any) -> _Any:
        job = self.__name__.rpartition(".")[2]
        return getattr(_import_module(f"{__name__}.api.jobs"), job)(*arguments, **keywords)


if __name__ == "mldr_deploy":  # else a test runner reads this file as that of its root folder
    for _room in ("choose", "compare", "export"):  # light: their __init__ holds one sentence
        _import_module(f".{_room}", __name__)
        _sys.modules[f"{__name__}.{_room}"].__class__ = _Room
