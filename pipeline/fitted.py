"""A recipe made to measure: what it leaves to the number of training pictures, in numbers."""

from __future__ import annotations

from typing import TypeVar

from ..data.fitting_batch import fitting_batch
from ..distill.pacing import paced, timed
from ..models.architecture_config import ModelConfig
from .recipe import Recipe, TeacherConfig

Trained = TypeVar("Trained", Recipe, TeacherConfig)


def fitted(recipe: Recipe, pictures: int, processes: int = 1) -> Recipe:
    """``recipe`` for so many training pictures: its batch, and every `auto` as a number.

    Raises MldrError where there are fewer pictures than ``processes``.
    """
    batch = fitting_batch(pictures, recipe.data.batch_size, processes)
    teacher = recipe.teacher and _paced(recipe.teacher, recipe.teacher, pictures, batch)
    data = recipe.data.model_copy(update={"batch_size": batch})
    own = _paced(recipe, recipe.student, pictures, batch)
    return own.model_copy(update={"data": data, "teacher": teacher})


def _paced(config: Trained, model: ModelConfig, pictures: int, batch: int) -> Trained:
    train, optimizer = config.train, config.optimizer
    if model.weights is None and train.parts == "head-first":
        # Nothing is there to be tuned: trained whole, at one rate.
        whole = {"parts": "all", "keep_statistics": False}
        train = train.model_copy(update=whole)
        optimizer = optimizer.model_copy(update={"below_head": 1.0})
    return config.model_copy(
        update={
            "train": timed(train, pictures, has_weights=model.weights is not None),
            "optimizer": paced(optimizer, batch),
        }
    )
