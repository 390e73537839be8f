"""What a choice is asked for, and the recipes of its trainings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..distill.methods.method_registry import METHODS, MethodConfig, needs_teacher
from ..models.architecture_config import ModelConfig
from ..pipeline.recipe import Recipe
from ..profiler.profile_config import ProfileConfig
from .budget import Budget

_VIEWS = 4  # epochs of pictures whose logits are kept, where the recipe says none


class ChoiceRequest(BaseModel):
    """The budget, who may take part, and how long it may last."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    budget: Budget = Field(description="What the student may cost.")
    students: tuple[str, ...] = Field(
        default=(), description="Names or patterns of architectures; none: the list of shelf.py."
    )
    candidates: int = Field(default=12, ge=1, le=200, description="Most that are trained.")
    image_sizes: tuple[Annotated[int, Field(ge=8, le=1024)], ...] = Field(
        default=(), description="Sides of the input to choose among; none: data.image_size."
    )
    precisions: tuple[Literal["fp32", "int8"], ...] = Field(
        default=("fp32", "int8"), min_length=1, description="Precisions to choose among."
    )
    hours: float = Field(default=2.0, gt=0, description="For the teacher and the rounds.")
    rules: ProfileConfig = Field(
        default=ProfileConfig(seconds=2.0, iterations=50),
        description="How latencies are measured.",
    )


def choice_method(method: MethodConfig) -> MethodConfig:
    """``method`` where a teacher's kept logits are all that it needs, else kd with its keys."""
    kind = METHODS[method.name]
    asks_more = kind.needs_teacher_stages is not False or kind.needs_features is not False
    if asks_more or not needs_teacher(method):
        replaced: MethodConfig = method.model_copy(update={"name": "kd"})
        return replaced
    return method


def base_recipe(recipe: Recipe, request: ChoiceRequest) -> Recipe:
    """``recipe`` as all trainings of a choice have it: one teacher, its logits kept."""
    assert recipe.teacher is not None
    side = recipe.teacher_data.image_size
    views = recipe.train.teacher_views or _VIEWS
    precisions = tuple(dict.fromkeys(("fp32", *request.precisions)))
    return recipe.model_copy(
        update={
            "teacher": recipe.teacher.model_copy(update={"image_size": side}),
            "method": choice_method(recipe.method),
            "train": recipe.train.model_copy(update={"teacher_views": views}),
            "export": recipe.export.model_copy(
                update={"precisions": precisions, "threads": request.budget.threads}
            ),
        }
    )


def student_recipe(
    base: Recipe, name: str, model: ModelConfig, image_size: int, epochs: int
) -> Recipe:
    """The recipe of one training, from a fitted ``base``.

    The warm-up is the same part of it as of the recipe's own.
    """
    warmup = base.schedule.warmup_epochs * epochs / base.train.passes
    return base.model_copy(
        update={
            "name": name,
            "student": model,
            "data": base.data.model_copy(update={"image_size": image_size}),
            "train": base.train.model_copy(update={"epochs": epochs}),
            "schedule": base.schedule.model_copy(update={"warmup_epochs": warmup}),
        }
    )
