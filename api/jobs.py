"""The commands as functions: they give the result objects that the commands print.

Heavy libraries are loaded by the call, not by the import. ``progress`` None shows bars where a
person is looking (a terminal, a notebook) and nothing elsewhere. What cannot be done raises
MldrError, with what mends it; what this machine lacks raises its subclass Unavailable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.progress import Progress
from .progress_bars import shown_to_people

if TYPE_CHECKING:
    from ..bundle.reader import Bundle
    from ..choose.verdict import StudentChoice
    from ..compare.results import Results
    from ..export.recheck import CheckResult
    from ..pipeline.recipe import Recipe
    from ..pipeline.summary import RunSummary
    from ..profiler.report import Report

Location = str | os.PathLike[str]


def distill_and_export(
    recipe: Location | None = None,
    keys: Mapping[str, Any] | None = None,
    *,
    data: Location | None = None,
    out: Location | None = None,
    device: str = "auto",
    restart: bool = False,
    progress: Progress | None = None,
) -> RunSummary | None:
    """The whole job, as `mldr-deploy distill-and-export`: false when a parity gate failed.

    ``recipe`` is a name or a TOML file, ``keys`` go over it (``{"train.epochs": 5}``, or tables in
    tables), ``data`` is data.source or a path. Without a recipe: `photos` for a path, else
    `digits`. ``out`` holds the run, the bundle in ``out``/bundle; the same call again continues.
    None in all processes but the first, where several train.
    """
    from ..pipeline.phases import pipeline
    from ..pipeline.summary import report

    resolved = _recipe(recipe, keys, data)
    with (
        shown_to_people(progress) as bar,
        pipeline(resolved, _path(out), device=device, restart=restart, progress=bar) as opened,
    ):
        return report(opened)


def export(
    trained: Location,
    out: Location,
    *,
    precisions: Sequence[str] = ("fp32",),
    targets: Sequence[str] = ("onnx",),
    data: str | None = None,
    data_root: Location | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Bundle:
    """The folder ``trained`` as the bundle ``out``, as `mldr-deploy export`.

    ``data`` says where the data set lies now, ``settings`` are other keys of a recipe's [export]
    table. The bundle is false when a gate failed; what could not be made here is in
    ``manifest.unavailable``.
    """
    from ..pipeline.single import export_trained

    settings = {**settings, "precisions": tuple(precisions), "targets": tuple(targets)}
    with shown_to_people(progress) as bar:
        return export_trained(
            Path(trained), Path(out), data, _path(data_root), settings, progress=bar
        )


def check(
    bundle: Location,
    *,
    data: str | None = None,
    data_root: Location | None = None,
    golden_only: bool = False,
    progress: Progress | None = None,
) -> CheckResult:
    """The bundle proven again, as `mldr-deploy check`: false when anything was refuted."""
    from ..pipeline.single import check_exported

    with shown_to_people(progress) as bar:
        return check_exported(
            Path(bundle), data, _path(data_root), golden_only=golden_only, progress=bar
        )


def choose(
    recipe: Location | None = None,
    keys: Mapping[str, Any] | None = None,
    *,
    budget: Mapping[str, Any],
    out: Location,
    data: Location | None = None,
    device: str = "auto",
    engine: str = "local",
    run_cores: int = 1,
    progress: Progress | None = None,
    **settings: Any,
) -> StudentChoice:
    """The most accurate student within ``budget``, as `mldr-deploy choose`: in ``out``/bundle.

    ``budget`` is ``{"max_ms": 5}``, and where needed max_mb, batch and threads; ``recipe``,
    ``keys`` and ``data`` are as for `distill_and_export`; ``settings`` are students, candidates,
    image_sizes, target, precisions, hours and jobs, as the command's options of these names. With
    ``engine`` "ray" trainings are tasks of a Ray cluster, each with ``run_cores``.
    """
    from ..choose.request import ChoiceRequest
    from ..choose.student_choice import choose_student
    from ..compare.ray_runs import training_engine
    from ..pipeline.validation import validated

    request = validated(ChoiceRequest, {**settings, "budget": dict(budget)}, "choose")
    resolved = _recipe(recipe, keys, data)
    with shown_to_people(progress) as bar:
        return choose_student(
            request,
            resolved,
            Path(out),
            device=device,
            progress=bar,
            engine=training_engine(engine, run_cores, request.jobs),
        )


def compare(
    matrix: Location,
    *,
    out: Location | None = None,
    jobs: int = 1,
    device: str = "auto",
    engine: str = "local",
    run_cores: int = 1,
    progress: Progress | None = None,
) -> Results:
    """Methods on equal terms, as `mldr-deploy compare`.

    ``failed`` of the results names runs and exports that failed, and bundles that did not pass.

    With ``engine`` "ray" they are tasks of a Ray cluster, each with ``run_cores``.
    """
    from ..compare.comparison import compare as carried_out
    from ..compare.ray_runs import training_engine

    with shown_to_people(progress) as bar:
        results, _ = carried_out(
            Path(matrix),
            _path(out),
            jobs=jobs,
            device=device,
            progress=bar,
            engine=training_engine(engine, run_cores, jobs),
        )
    return results


def profile(
    bundle: Location,
    *,
    out: Location | None = None,
    allow_failed: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Report:
    """What every artifact costs on this machine, as `mldr-deploy profile`.

    ``settings`` are the fields of ProfileConfig (``rounds``, ``seconds``, ``batches``, ...); with
    ``out`` the report is written there too.
    """
    from ..profiler.folder_report import profile_in

    with shown_to_people(progress) as bar:
        return profile_in(
            Path(bundle), _path(out), settings, allow_failed=allow_failed, progress=bar
        )


def _recipe(
    recipe: Location | None, keys: Mapping[str, Any] | None, data: Location | None
) -> Recipe:
    """``recipe``, else the one that fits ``data``, with ``data`` and ``keys`` over it."""
    from ..pipeline.choices import default_recipe, overrides, source_of
    from ..pipeline.recipe import load_recipe

    source = None if data is None else source_of(os.fspath(data))
    name = default_recipe(source) if recipe is None else os.fspath(recipe)
    table = {**({} if source is None else {"data.source": source}), **(keys or {})}
    return load_recipe(name, overrides(table))


def _path(location: Location | None) -> Path | None:
    return None if location is None else Path(location)
