"""A recipe made to measure: what it leaves to the number of training pictures, in numbers."""

from __future__ import annotations

from typing import TypeVar

from ..data.fitting_batch import fitting_batch
from ..distill.pacing import paced, timed
from .recipe import Recipe, TeacherConfig

Trained = TypeVar("Trained", Recipe, TeacherConfig)


def fitted(recipe: Recipe, pictures: int, processes: int = 1) -> Recipe:
    """``recipe`` for so many training pictures: its batch, and every `auto` as a number.

    Raises MldrError where there are fewer pictures than ``processes``.
    """
    batch = fitting_batch(pictures, recipe.data.batch_size, processes)
    teacher = recipe.teacher and _paced(recipe.teacher, pictures, batch)
    data = recipe.data.model_copy(update={"batch_size": batch})
    own = _paced(recipe, pictures, batch)
    return own.model_copy(update={"data": data, "teacher": teacher})


def _paced(config: Trained, pictures: int, batch: int) -> Trained:
    return config.model_copy(
        update={
            "train": timed(config.train, pictures),
            "optimizer": paced(config.optimizer, batch),
        }
    )
