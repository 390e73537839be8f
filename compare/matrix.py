"""A comparison as one TOML file: which pairs, which methods, which seeds, on what terms.

    name = "families"
    methods = ["scratch", "kd", "mldr-kd"]
    seeds = [0, 1]

    [recipe.data]                     # what all runs share, sections of a recipe
    source = "cifar100"

    [teachers.resnet18]               # a recipe's [teacher] table, by a name of your own
    name = "resnet18"

    [pairs.regnet]                    # a teacher's name, and sections of a recipe
    teacher = "resnet18"
    student = { name = "regnetx_002" }

A run's recipe is [recipe], under the pair's sections, under the method's; then its seed. So the
methods of a pair have the same budget, initial weights, order of the images and augmentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..distill.methods.method_registry import METHODS
from ..errors import MldrError
from ..pipeline.recipe import Recipe, merged
from ..pipeline.recipe_error import describe
from ..pipeline.toml_text import parse_toml
from ..pipeline.validation import validated

Table = dict[str, Any]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$"  # names become folders


class Tuning(BaseModel):
    """Choices among which each method's settings are taken, by validation accuracy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=1000, ge=0, lt=2**32, description="Its seed; not one of `seeds`.")
    recipe: Table = Field(
        default_factory=dict,
        description="Sections of a recipe laid over the tuning runs, for example fewer epochs.",
    )
    choices: dict[str, list[Table]] = Field(
        description="For each method a list of sections of a recipe; {} is the default. Methods "
        "that have choices must have equally many: the same effort for all.",
    )


class Matrix(BaseModel):
    """A comparison."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="Names the comparison's folder under runs/.")
    description: str = Field(default="", description="What is compared, in a line.")
    methods: tuple[str, ...] = Field(
        min_length=1, description="Columns: names of methods, or of [variants]."
    )
    seeds: tuple[int, ...] = Field(
        default=(0, 1), min_length=1, description="Each method runs once with each."
    )
    focus: str = Field(
        default="mldr-kd", description="The method whose gain over the best other is told."
    )
    export: bool = Field(
        default=True,
        description="Whether one student of each pair is exported and proven, for its latency.",
    )
    recipe: Table = Field(default_factory=dict, description="Sections that all runs share.")
    teachers: dict[str, Table] = Field(
        default_factory=dict, description="[teacher] tables by a name of your own."
    )
    pairs: dict[str, Table] = Field(
        min_length=1,
        description="`teacher`: one of [teachers]; `tuned_on`: the pair whose tuning counts here "
        "too, else the pair is tuned itself; beside them sections of a recipe.",
    )
    variants: dict[str, Table] = Field(
        default_factory=dict,
        description="Columns of your own: sections of a recipe, method.name among them.",
    )
    tuning: Tuning | None = Field(default=None, description="How methods' settings are chosen.")

    @model_validator(mode="after")
    def _names_that_exist(self) -> Self:
        columns = (*METHODS, *self.variants)
        for method in self.methods:
            _require(method, columns, "methods")
        _require(self.focus, self.methods, "focus")
        for name, pair in self.pairs.items():
            if "teacher" in pair:
                _require(pair["teacher"], tuple(self.teachers), f"pairs.{name}.teacher")
            _require(self.tuned_on(name), tuple(self.pairs), f"pairs.{name}.tuned_on")
            if self.tuned_on(self.tuned_on(name)) != self.tuned_on(name):
                raise ValueError(f"pairs.{name}.tuned_on names a pair that is not tuned itself")
        for values in (self.methods, self.seeds):
            if len(set(values)) < len(values):
                raise ValueError(f"{list(values)} names something twice")
        return self

    @model_validator(mode="after")
    def _equal_effort(self) -> Self:
        if self.tuning is None:
            return self
        if self.tuning.seed in self.seeds:
            raise ValueError(f"tuning.seed = {self.tuning.seed} is one of seeds: choose another")
        for method in self.tuning.choices:
            _require(method, self.methods, "tuning.choices")
        counts = {name: len(choices) for name, choices in self.tuning.choices.items()}
        if len(set(counts.values())) > 1 or 0 in counts.values():
            efforts = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(f"tuning.choices must be equally many for all methods, not {efforts}")
        return self

    def tuned_on(self, pair: str) -> str:
        """The pair on which the settings of ``pair`` are chosen."""
        tuned_pair: str = self.pairs[pair].get("tuned_on", pair)
        return tuned_pair

    def section(self, pair: str, method: str, seed: int, *over: Table) -> Recipe:
        """The recipe of one run; ``over`` are sections laid over everything else.

        Raises MldrError, with the run and the key, for what no recipe may say.
        """
        table = dict(self.pairs[pair])
        teacher = table.pop("teacher", None)
        table.pop("tuned_on", None)
        if teacher is not None:
            table["teacher"] = self.teachers[teacher]
        method_table = self.variants.get(method, {"method": {"name": method}})
        last = {"name": f"{pair} {method} {seed}", "train": {"seed": seed}}
        table = merged(self.recipe, table, method_table, *over, last)
        try:
            return Recipe(**table)
        except ValidationError as error:
            raise MldrError(f"pair {pair}, method {method}: {describe(error, Recipe)}") from error

    def teaching(self, teacher: str) -> Recipe:
        """A recipe that trains ``teacher`` and depends on nothing but it and its data."""
        pair = next(name for name, table in self.pairs.items() if table.get("teacher") == teacher)
        recipe = self.section(pair, "scratch", 0)
        assert recipe.teacher is not None
        return Recipe(
            name=f"teacher {teacher}",
            data=recipe.data,
            teacher=recipe.teacher,
            student=recipe.teacher.model.model_copy(update={"weights": None}),
            method={"name": "scratch"},  # type: ignore[arg-type]
        )


def load_matrix(path: Path) -> Matrix:
    """The comparison in ``path``, every run's recipe validated.

    Raises MldrError, in one line, for a file that cannot be read, bad TOML, an unknown key or
    name, a recipe that no run could have, tuning without a validation split, or a teacher that two
    pairs want on different data.
    """
    try:
        table = parse_toml(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise MldrError(f"{path} does not exist: give a comparison's TOML file") from None
    except OSError as error:
        raise MldrError(f"{path} cannot be read: {error.strerror}") from error
    matrix = validated(Matrix, table, str(path))
    choices = matrix.tuning.choices if matrix.tuning else {}
    for pair in matrix.pairs:
        for method in matrix.methods:
            for choice in ({}, *choices.get(method, ())):
                matrix.section(pair, method, matrix.seeds[0], choice)
    _require_validation(matrix)
    _same_data(matrix)
    return matrix


def _require_validation(matrix: Matrix) -> None:
    """Settings are chosen on the validation split, so every tuning run must have one."""
    plan = matrix.tuning
    if plan is None:
        return
    for pair in dict.fromkeys(matrix.tuned_on(name) for name in matrix.pairs):
        for method, choices in plan.choices.items():
            for choice in choices:
                recipe = matrix.section(pair, method, plan.seed, plan.recipe, choice)
                if recipe.data.val_fraction == 0:
                    raise MldrError(
                        f"pair {pair}, method {method}: [tuning] chooses by validation accuracy "
                        "and data.val_fraction is 0: set data.val_fraction=0.1, or drop [tuning]"
                    )


def _same_data(matrix: Matrix) -> None:
    """A teacher is trained once, so its pairs must agree on the data."""
    data_by_teacher: dict[str, tuple[str, Any]] = {}
    for pair, table in matrix.pairs.items():
        teacher = table.get("teacher")
        if teacher is None:
            continue
        data = matrix.section(pair, matrix.methods[0], 0).data
        first, first_data = data_by_teacher.setdefault(teacher, (pair, data))
        if first_data != data:
            raise MldrError(
                f"pairs {first} and {pair} share teacher {teacher} but differ in [data]: give the "
                "teacher a second name in [teachers]"
            )


def _require(name: Any, names: tuple[str, ...], key: str) -> None:
    if name not in names:
        raise ValueError(f"{key}: unknown name {name!r}; there are {', '.join(names) or 'none'}")
