"""The `compare` file to go on with: the finalists by several methods and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from ..pipeline.recipe import Recipe
from .halving import better
from .request import student_recipe
from .verdict import StudentChoice

_METHODS = ["scratch", "kd", "mldr-kd"]


def follow_up(choice: StudentChoice, base: Recipe, out: Path) -> str:
    """TOML of a comparison of the last round's students, with the teacher that taught them."""
    epochs = choice.rounds[-1].epochs
    winner = choice.entrant
    shared = _table(student_recipe(base, "shared", winner.model, winner.image_size, epochs))
    for key in ("name", "description", "student", "method"):
        shared.pop(key, None)
    teacher = shared.pop("teacher")
    if base.teacher is not None and base.teacher.is_trained_here:
        teacher |= {"weights": str(out / "teacher" / "teacher"), "fresh_head": False}
    names = [score.name for score in better(choice.scores[-1])]
    teachers, pairs = {}, {}
    for finalist in map(choice.plan.entrant, dict.fromkeys([*names, winner.name])):
        # A comparison's teacher is of one size of data: where sizes differ, each has its own.
        name = f"teacher {finalist.image_size}"
        teachers[name] = teacher
        student = _table(base.model_copy(update={"student": finalist.model}))["student"]
        data = {"image_size": finalist.image_size}
        pairs[finalist.folder] = {"teacher": name, "student": student, "data": data}
    table = {
        "name": "finalists",
        "description": f"The finalists of a choice within {choice.plan.request.budget}.",
        "methods": _METHODS,
        "seeds": [0, 1],
        "recipe": shared,
        "teachers": teachers,
        "pairs": pairs,
    }
    return tomli_w.dumps(table)


def _table(recipe: Recipe) -> dict[str, Any]:
    """What differs from the defaults."""
    table = recipe.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return {key: value for key, value in table.items() if value != {}}
