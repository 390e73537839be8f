"""What a choice is asked for, and the recipes of its trainings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..bundle.targets import TARGETS
from ..distill.methods.method_registry import METHODS, MethodConfig, needs_teacher
from ..models.architecture_config import ModelConfig
from ..pipeline.recipe import Recipe
from ..profiler.profile_config import ProfileConfig
from .budget import Budget

# What is timed before training is what an untrained student can be written in.
_PRECISIONS = {
    "onnx": ("fp32", "int8"),
    **{row.name: row.precisions for row in TARGETS.values() if row.caveat},
}
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
    target: Literal[*_PRECISIONS] = Field(  # type: ignore[valid-type]
        default="onnx", description="What runs the student's file."
    )
    precisions: tuple[str, ...] = Field(
        default=(),
        description="Precisions to choose among; none: fp32 and the target's 8 bits.",
    )
    hours: float = Field(default=2.0, gt=0, description="For the teacher and the rounds.")
    jobs: int = Field(
        default=0, ge=0, description="Trainings at once; 0: one a core, four at most, or one a GPU."
    )
    rules: ProfileConfig = Field(
        default=ProfileConfig(seconds=2.0, iterations=50),
        description="How latencies are measured.",
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, content: Any) -> Any:
        """Refuse a precision that is not timed for the target; where none is named, all are."""
        target = content.get("target", "onnx")
        if target not in _PRECISIONS:
            return content
        precisions = content.get("precisions") or _PRECISIONS[target]
        if strange := [name for name in precisions if name not in _PRECISIONS[target]]:
            raise ValueError(
                f"{target} files are chosen among {', '.join(_PRECISIONS[target])}, not "
                f"{', '.join(map(str, strange))}"
            )
        return {**content, "precisions": tuple(precisions)}


def choice_method(method: MethodConfig) -> MethodConfig:
    """``method`` where a teacher's kept logits are all that it needs, else dist with its keys."""
    kind = METHODS[method.name]
    asks_more = kind.needs_teacher_stages is not False or kind.needs_features is not False
    if asks_more or not needs_teacher(method):
        replaced: MethodConfig = method.model_copy(update={"name": "dist"})
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
                update={
                    "precisions": precisions,
                    "targets": (request.target,),
                    "threads": request.budget.threads,
                }
            ),
        }
    )


def student_recipe(
    base: Recipe, name: str, model: ModelConfig, image_size: int, epochs: float
) -> Recipe:
    """The recipe of one training, from a fitted ``base``.

    The warm-up is the same part of it as of the recipe's own.
    """
    warmup = base.schedule.warmup_epochs * epochs / base.train.length
    length = int(epochs) if epochs >= 1 else epochs
    return base.model_copy(
        update={
            "name": name,
            "student": model,
            "data": base.data.model_copy(update={"image_size": image_size}),
            "train": base.train.model_copy(update={"epochs": length}),
            "schedule": base.schedule.model_copy(update={"warmup_epochs": warmup}),
        }
    )
