"""Write docs/python.md from the docstrings of what `mldr_deploy` offers; --check only compares."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mldr_deploy
from mldr_deploy.api import jobs

from generated import write_or_check

TARGET = Path(__file__).resolve().parents[1] / "docs" / "python.md"
HEADER = """# From Python

Written by `scripts/api_reference.py` from the docstrings; do not edit.

    import mldr_deploy as md

    keys = {"train.epochs": 5}                     # of the recipe, as many as you like
    summary = md.distill_and_export(keys=keys, data="photos", out="runs/photos")
    print(summary)                                 # the table that the command prints
    student = md.load("runs/photos/bundle")        # the fastest runtime here; loads no torch
    print(student.classify("cat.jpg"))             # cat 97.1 %, dog 1.2 %, ...
    student.classify(["a.jpg", "b.jpg"], top=1)[0].label

`import mldr_deploy` loads nothing else; PyTorch is loaded by the functions that train, export or
check. Results are the objects that the commands print; those of `distill_and_export`, `export` and
`check` are false where a gate failed.
"""


def entries() -> Iterator[str]:
    """One Markdown section a name."""
    for name in mldr_deploy.__all__:
        subject = getattr(jobs, name, None) or getattr(mldr_deploy, name)
        if inspect.isclass(subject):
            yield section(f"class {name}", subject)
            if not issubclass(subject, BaseException):
                yield from members(name, subject)
        else:
            yield section(name, subject, f"    {name}{signature(subject)}\n\n")


def members(name: str, subject: type) -> Iterator[str]:
    """Public methods and properties of a class, with what they say."""
    for member, value in vars(subject).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"\n- `{name}.{member}`: {summary(value)}\n"
        elif inspect.isfunction(value):
            yield f"\n- `{name}.{member}{signature(value)}`: {summary(value)}\n"
    for field, annotation in vars(subject).get("__annotations__", {}).items():
        yield f"\n- `{name}.{field}`: {annotation}\n"


def section(title: str, subject: Any, code: str = "") -> str:
    return f"\n## {title}\n\n{code}{summary(subject)}\n"


def summary(subject: Any) -> str:
    text = inspect.cleandoc(subject.__doc__ or "")
    return re.sub(r"``", "`", text)


def signature(function: Any) -> str:
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return re.sub(r"\(self(, )?", "(", text)


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, HEADER + "".join(entries()), sys.argv[1:]))
