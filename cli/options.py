"""Options that several commands share, each documented once.

@click.command(name="distill")
@carries_out
def command(pipeline: Pipeline, as_json: bool) -> None: ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from .console import progress
from .short_forms import SHORT_FORMS, overrides_completed, recipe_chosen

if TYPE_CHECKING:
    from ..compare.workers import Work
    from ..pipeline.phases import Pipeline

F = TypeVar("F", bound=Callable[..., Any])


class CommaList(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Values of ``kind`` in one word, separated by commas; spaces and a last comma do not matter.

    An empty list is refused unless it ``may_be_empty``, an empty place between commas always.
    """

    name = "list"

    def __init__(self, kind: Callable[[str], Any] = str.lower, *, may_be_empty: bool = False):
        self.kind, self.may_be_empty = kind, may_be_empty

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if not isinstance(value, str):  # converted already
            return tuple(value)
        parts = [part.strip() for part in value.split(",")]
        if not parts[-1]:
            parts.pop()
        if not all(parts) or not (parts or self.may_be_empty):
            self.fail(f"{value!r} has an empty place: write values separated by commas", param, ctx)
        try:
            return tuple(self.kind(part) for part in parts)
        except ValueError:
            example = (None if param is None else param.default) or "64,128"
            self.fail(f"{value!r} is no list of numbers like {example}", param, ctx)


def refuse_given(ctx: click.Context, names: Iterable[str], reason: str) -> None:
    """Refuse options and arguments, by parameter ``names``, that a mode of the command ignores.

    Raises UsageError, "--option REASON", for the first that was given.
    """
    for param in ctx.command.params:
        assert param.name is not None
        source = ctx.get_parameter_source(param.name)
        if param.name in names and source is not ParameterSource.DEFAULT:
            shown = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
            raise click.UsageError(f"{shown} {reason}")


recipe = click.option(
    "--recipe",
    metavar="NAME|FILE",
    callback=recipe_chosen,
    help="What to do: the name of a recipe that comes with the package, or a TOML file of your "
    "own. See docs/recipes.md for the names and every key.  [default: photos with --data PATH, "
    "else digits]",
)
overrides = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    callback=overrides_completed,
    help="Override one key of the recipe, for example --set optimizer.lr=0.1. May be given "
    "several times; the last one for a key counts.",
)
out = click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder of this run.  [default: runs/ and the recipe's name]",
)
device = click.option(
    "--device",
    metavar="auto|cpu|cuda|cuda:N|mps",
    default="auto",
    show_default=True,
    help="Where to compute. auto takes a GPU when PyTorch sees one.",
)
quiet = click.option(
    "--quiet", "-q", is_flag=True, help="No progress bars and notes; results and errors only."
)
as_json = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object (docs/json.md); bars and notes stay on standard error.",
)
restart = click.option(
    "--restart",
    is_flag=True,
    help="Throw away what lies in --out and begin anew. Without it, finished stages are kept and a "
    "folder with another recipe's results is refused.",
)


def engine_chosen(name: str, run_cores: int | None, jobs: int | None) -> Work | None:
    """What --engine, --run-cores and --jobs say; None: this machine."""
    from ..compare.ray_runs import training_engine

    if run_cores is not None and name != "ray":
        raise click.UsageError("--run-cores needs --engine ray.")
    if jobs is not None and name == "ray":
        raise click.UsageError(
            "--engine ray does not go with --jobs: Ray carries out as many runs as there is room "
            "for."
        )
    return training_engine(name, run_cores or 1, jobs or 1)


def forms(short: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    """The short forms ``short``, in their order."""

    def decorated(command: F) -> F:
        for option in reversed(short):
            command = option(command)
        return command

    return decorated


def carries_out(command: Callable[[Pipeline, bool], None]) -> Callable[..., None]:
    """Give a command the options of (part of) a recipe's run.

    It gets the opened pipeline, and whether to print JSON.
    """

    @functools.wraps(command)
    def opened(
        recipe: str,
        overrides: tuple[str, ...],
        out: Path | None,
        device: str,
        restart: bool,
        as_json: bool,
        quiet: bool,
    ) -> None:
        from ..pipeline.meeting import wait_notice

        with progress(quiet) as bar, ExitStack() as stack:
            with wait_notice(device):  # PyTorch takes seconds to load, which count
                from ..pipeline.phases import pipeline
                from ..pipeline.recipe import load_recipe

                resolved = load_recipe(recipe, overrides)
                opened_pipeline = stack.enter_context(
                    pipeline(resolved, out, device=device, restart=restart, progress=bar)
                )
            command(opened_pipeline, as_json)

    wrapped: Callable[..., None] = opened
    for option in (quiet, as_json, restart, device, out, overrides, *reversed(SHORT_FORMS), recipe):
        wrapped = option(wrapped)
    return wrapped


def data_source(meaning: str) -> Callable[[F], F]:
    """``--data SOURCE`` as ``source``; ``meaning`` begins its help."""
    return click.option(
        "--data",
        "source",
        metavar="SOURCE",
        help=f"{meaning}: digits, cifar100, tiny-imagenet, folder:PATH, parquet:PATH, "
        "csv:FILE or hf:USER/NAME.  "
        "[default: the source it was trained on]",
    )


engine = click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="What trains: local, this machine; ray, the Ray cluster that $RAY_ADDRESS names, else one "
    "that is started here and stopped at the end. --out must lie where all its machines see it.",
)


def jobs(default: str) -> Callable[[F], F]:
    """``--jobs``; ``default``: in words."""
    return click.option(
        "--jobs",
        "-j",
        type=click.IntRange(min=1),
        help="Trainings at once on this machine: on every GPU in turn, or each on its share of the "
        f"processor's cores.  [default: {default}]",
    )


run_cores = click.option(
    "--run-cores",
    type=click.IntRange(1, 1024),
    default=None,
    help="Cores and threads of each run on Ray; on a GPU each has a whole one beside.  "
    "[default: 1]",
)
data_root = click.option(
    "--data-root",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that holds the named data sets.  [default: $MLDR_DATA, else ../shared/data beside "
    "the checkout, else the user's cache folder]",
)
threads = click.option(
    "--threads",
    type=click.IntRange(0, 1024),
    default=0,
    show_default=True,
    help="CPU threads that compute; 0: one per usable core.",
)
max_megapixels = click.option(
    "--max-megapixels",
    type=click.FloatRange(0.000001, 500),
    default=25.0,
    show_default=True,
    help="Largest image, millions of pixels; read from its header before anything is decoded.",
)


def max_upload(largest: str) -> Callable[[F], F]:
    """``--max-upload-mib``; ``largest`` says of what it is the limit."""
    return click.option(
        "--max-upload-mib",
        type=click.FloatRange(0.001, 1024),
        default=16.0,
        show_default=True,
        help=f"Largest {largest}, MiB.",
    )
