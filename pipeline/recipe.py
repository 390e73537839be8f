"""Recipes: TOML files composed of the sections that their owners define, and overrides of them."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..data.data_config import AugmentConfig, DataConfig
from ..distill.methods.method_registry import MethodConfig, needs_teacher, table_of
from ..distill.phase import Training
from ..distill.training_config import OptimizerConfig, ScheduleConfig, TrainConfig
from ..errors import MldrError
from ..export.export_config import ExportConfig
from ..models.architecture_config import ModelConfig
from ..models.class_order import ClassOrder
from .recipe_error import describe, first_key
from .toml_text import parse_toml


class TeacherConfig(ModelConfig):
    """The teacher; where it has no `weights`, or a fresh head, how it is trained first."""

    class_order: ClassOrder | None = Field(
        default=None,
        description="The order of the classes in the outputs of `weights` from elsewhere, where it "
        "is not the data's: `natural` (1, 2, 10, ignoring case: timm's training program), `sorted` "
        "(1, 10, 2), or a list of the class names.",
    )
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Height and width fed to the teacher, pixels; unset: data.image_size. Where "
        "they differ, both networks see the same part of the same picture, each resampled from "
        "the source to its own size.",
    )
    train: TrainConfig = Field(default=TrainConfig(), description="Loop of its own training.")
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="Its optimiser.")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="Its schedule.")
    augment: AugmentConfig = Field(default=AugmentConfig(), description="Its augmentation.")

    @model_validator(mode="after")
    def _order_of_finished_weights(self) -> Self:
        if self.class_order is not None and self.is_trained_here:
            raise ValueError(
                "class_order is of finished weights; a teacher that is trained here has the data's "
                "order: remove that key"
            )
        return self

    @property
    def is_trained_here(self) -> bool:
        """Whether it starts without weights, or with a fresh classifier."""
        return self.weights is None or self.fresh_head

    @property
    def model(self) -> ModelConfig:
        """The model alone."""
        names = ModelConfig.model_fields
        return ModelConfig(**{name: getattr(self, name) for name in names})

    @property
    def training(self) -> Training:
        """How it is trained where it has no weights."""
        return Training(
            train=self.train,
            optimizer=self.optimizer,
            schedule=self.schedule,
            augment=self.augment,
        )


class Recipe(BaseModel):
    """What one run does: the data, both models, the training and the export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Names the run's folder under runs/.")
    description: str = Field(default="", description="What the recipe is for, in a line.")
    data: DataConfig = Field(default=DataConfig(), description="Images and how they are split.")
    teacher: TeacherConfig | None = Field(
        default=None, description="Who is learned from; may be left out with method scratch."
    )
    student: ModelConfig = Field(description="Who learns, and is exported.")
    method: MethodConfig = Field(default=MethodConfig(), description="How it is distilled.")
    train: TrainConfig = Field(default=TrainConfig(), description="Loop of the distillation.")
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="Its optimiser.")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="Its schedule.")
    augment: AugmentConfig = Field(default=AugmentConfig(), description="Its augmentation.")
    export: ExportConfig = Field(default=ExportConfig(), description="How it is exported.")

    @model_validator(mode="after")
    def _teacher_where_needed(self) -> Self:
        if needs_teacher(self.method) and self.teacher is None:
            raise ValueError(
                f"method.name={self.method.name} needs a [teacher] table with a name; only "
                "scratch does without"
            )
        return self

    @property
    def teacher_data(self) -> DataConfig:
        """The data as the teacher takes them: at its own size."""
        side = self.teacher.image_size if self.teacher is not None else None
        return self.data.model_copy(update={"image_size": side or self.data.image_size})

    @property
    def training(self) -> Training:
        """How the student is trained."""
        return Training(
            train=self.train,
            optimizer=self.optimizer,
            schedule=self.schedule,
            augment=self.augment,
        )


def merged(*tables: dict[str, Any]) -> dict[str, Any]:
    """Recipes' tables laid over each other, the last on top, key by key."""
    return functools.reduce(_over, tables, {})


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = files("mldr_deploy.distill").joinpath("recipes")
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.suffix == ".toml")  # type: ignore[attr-defined]


def load_recipe(recipe: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or in that file, with ``key=value`` overrides applied.

    A file may begin with ``extends = "NAME"`` (or a file beside it): what it says then goes over
    that other recipe, key by key.

    Raises:
        MldrError: no such recipe, bad TOML, an unknown key, a wrong type or an impossible value;
            with the key's full name, the value and what is allowed, and the recipe where the value
            is the recipe's own.
    """
    table, origin = _table(recipe, ())
    for override in overrides:
        _apply(table, override)
    try:
        return Recipe(**table)
    except ValidationError as error:
        place = "" if _is_overridden(first_key(error, Recipe), overrides) else f"{origin}: "
        raise MldrError(f"{place}{describe(error, Recipe)}") from error


def _is_overridden(key: str, overrides: Sequence[str]) -> bool:
    """Whether an override sets ``key``, a table that it is in, or a part of it."""
    names = [override.partition("=")[0].strip() for override in overrides]
    return bool(key) and any(
        f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in names
    )


def is_idle(recipe: Recipe, key: str) -> bool:
    """Whether a dotted key is one of a method that the recipe does not use.

    Such a key has no say in what comes out; there are more of them with every new method.
    """
    head, _, method_key = key.partition(".")
    used = ("name", table_of(recipe.method.name))
    return head == "method" and method_key.partition(".")[0] not in used


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe, defaults included, as TOML that `load_recipe` reads back."""
    return tomli_w.dumps(_without_none(recipe.model_dump(mode="json")))


def _table(recipe: str, above: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """A recipe's table with what it extends underneath, and what to call it in messages."""
    data, origin = _read(recipe)
    if origin in above:
        raise MldrError(f"{above[0]} extends itself, by way of {origin}")
    table = parse_toml(data, origin)
    base = table.pop("extends", None)
    if base is None:
        return table, origin
    if not isinstance(base, str):
        raise MldrError(
            f"{origin}: extends = {base!r} is not allowed: give a recipe's name or file"
        )
    if base.endswith(".toml"):
        base = str(Path(recipe).parent / base)
    return _over(_table(base, (*above, origin))[0], table), origin


def _over(base: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """``table`` laid over ``base``; nested tables are merged, everything else is replaced."""
    result = dict(base)
    for key, value in table.items():
        under = result.get(key)
        nested = isinstance(under, dict) and isinstance(value, dict) and key != "options"
        result[key] = _over(under, value) if nested else value  # type: ignore[arg-type]
    return result


def _read(recipe: str) -> tuple[bytes, str]:
    """Bytes of a recipe's file and what to call it in messages."""
    path = Path(recipe)
    if path.suffix == ".toml" or path.is_file():
        try:
            return path.read_bytes(), str(path)
        except FileNotFoundError:
            raise MldrError(f"recipe file {path} does not exist") from None
        except OSError as error:
            raise MldrError(f"recipe file {path} cannot be read: {error.strerror}") from error
    names = recipe_names()
    if recipe not in names:
        raise MldrError(
            f"unknown recipe {recipe!r}; there are {', '.join(names)}, or give a .toml file"
        )
    file = files("mldr_deploy.distill").joinpath("recipes", f"{recipe}.toml")
    return file.read_bytes(), f"recipe {recipe}"


def _apply(table: dict[str, Any], override: str) -> None:
    """Set ``a.b.c=value`` in nested tables; the value is TOML, or else a plain string."""
    key, equals, text = override.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise MldrError(f"--set {override}: write it as KEY=VALUE, for example optimizer.lr=0.1")
    for depth, part in enumerate(path[:-1]):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise MldrError(f"--set {override}: {'.'.join(path[: depth + 1])} is not a table")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    if value == "none":
        table.pop(path[-1], None)
    else:
        table[path[-1]] = value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_none(v) for v in value]
    return value
