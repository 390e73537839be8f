"""Options that are short for keys of a recipe."""

from __future__ import annotations

from typing import Any

import click

from ..pipeline.choices import default_recipe, source_of

_VALUES = "mldr_deploy.short_forms"  # of click's meta: key -> value


def recipe_chosen(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """``--recipe`` as given; else `photos` for pictures of the user's own, else `digits`."""
    if value is not None:
        return value
    return default_recipe(_key_values(ctx).get("data.source"))


def overrides_completed(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """``--set`` with the short forms before it."""
    return (*(f"{key}={text}" for key, text in _key_values(ctx).items()), *value)


def _key_values(ctx: click.Context) -> dict[str, str]:
    values: dict[str, str] = ctx.meta.setdefault(_VALUES, {})
    return values


def _short(name: str, key: str, **settings: Any) -> Any:
    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            _key_values(ctx)[key] = source_of(str(value)) if key == "data.source" else str(value)

    # Eager: before --recipe and --set, which ask what was given.
    return click.option(name, expose_value=False, is_eager=True, callback=keep, **settings)


_STUDENT = _short(
    "--student", "student.name", metavar="MODEL", help="Short for --set student.name=MODEL."
)
SHORT_FORMS = (
    _short(
        "--data",
        "data.source",
        metavar="PATH|SOURCE",
        help="Short for --set data.source=SOURCE. A path by itself is a folder with a folder of "
        "pictures per class, or a .parquet or .csv file; the recipe is then `photos`.",
    ),
    _short(
        "--teacher", "teacher.name", metavar="MODEL", help="Short for --set teacher.name=MODEL."
    ),
    _STUDENT,
    _short(
        "--image-size",
        "data.image_size",
        metavar="PIXELS",
        type=click.IntRange(8, 1024),
        help="Short for --set data.image_size=PIXELS.",
    ),
    _short(
        "--epochs",
        "train.epochs",
        metavar="N",
        type=click.IntRange(min=1),
        help="Short for --set train.epochs=N, of the student.",
    ),
)
CHOICE_FORMS = tuple(form for form in SHORT_FORMS if form is not _STUDENT)
