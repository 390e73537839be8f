"""The whole choice: plan, rounds, proof, verdict, and what it leaves in OUT.

OUT/plan.json  choice.json  table.md  report.html  compare.toml  bundle/
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..bundle.atomic import atomic_folder, write_json, write_text
from ..bundle.manifest import FILE as MANIFEST
from ..bundle.progress import Progress
from ..compare.local_runs import LocalRuns, jobs_here
from ..compare.recent_data import RecentData
from ..compare.workers import Work
from ..errors import MldrError
from ..pipeline.fitted import fitted
from ..pipeline.phases import pipeline
from ..pipeline.recipe import Recipe
from .choice_page import choice_page
from .choice_plan import ChoicePlan, save_plan, stored_plan
from .choice_table import choice_table
from .contest import Contest
from .follow_up import follow_up
from .measurements import Measurements, device_kind, device_name
from .planning import Planning
from .proof import proven_files
from .request import ChoiceRequest, base_recipe
from .verdict import StudentChoice, verdict


def choose_student(
    request: ChoiceRequest,
    recipe: Recipe,
    out: Path,
    *,
    device: str,
    progress: Progress,
    measurements: Measurements | None = None,
    engine: Work | None = None,
) -> StudentChoice:
    """Choose the most accurate student within the budget and write ``out``.

    What is finished there is not done again, and a training that was interrupted goes on from its
    last checkpoint. Raises MldrError where nothing is within the budget, the hours are too few for
    one round, no student may be shipped, or ``out`` holds another choice. ``engine`` carries out
    the trainings; None: this machine. Whatever does, this process measures and proves.
    """
    if recipe.teacher is None:
        raise MldrError("the recipe has no [teacher] table: give --teacher MODEL")
    if recipe.data.val_fraction == 0:
        raise MldrError(
            "students are chosen by validation accuracy: data.val_fraction must be more than 0"
        )
    device, data = device_kind(device), RecentData()
    dataset = data.load(recipe.data, progress=progress)
    base = fitted(base_recipe(recipe, request), len(dataset.train))
    if base.method != recipe.method:
        progress.note(f"method dist in place of {recipe.method.name}: it takes kept logits alone")
    jobs = 1 if engine else request.jobs or jobs_here(device)
    plan = _plan(
        request, base, out, device, jobs, data, progress, measurements, dataset.fingerprint
    )
    contest = Contest(plan, base, out, data, engine or LocalRuns(plan.jobs, out / "logs"))
    scores = contest.rounds(device, progress)
    proofs = contest.prove(scores, device, progress)
    files = {name: proven_files(unit) for name, unit in proofs.items()}
    rounds, omission = contest.hours.rounds, contest.hours.omission()
    choice = verdict(plan, rounds, scores, files, contest.failed, omission)
    _write(choice, base, proofs[choice.winner].folder / "bundle", out)
    return choice


def _plan(
    request: ChoiceRequest,
    base: Recipe,
    out: Path,
    device: str,
    jobs: int,
    data: RecentData,
    progress: Progress,
    measurements: Measurements | None,
    pictures: str,
) -> ChoicePlan:
    """The plan that lies in ``out``, else a new one; ``pictures``: hash of the data."""
    device_here = device_name(device)
    plan = stored_plan(out, request, base, device_here, pictures)
    if plan is not None:
        progress.note(f"going on with {out}")
        return plan
    with pipeline(
        base, out / "measuring", device=device, restart=False, progress=progress, load=data.load
    ) as opened:
        storage = measurements or Measurements.of_user()
        plan = Planning(opened, request, storage, progress, device_here, jobs).plan()
    save_plan(plan, out)
    shutil.rmtree(out / "measuring")
    return plan


def _write(choice: StudentChoice, base: Recipe, bundle: Path, out: Path) -> None:
    """Everything that a choice leaves; choice.json last."""
    with atomic_folder(out / "bundle", replaces=MANIFEST) as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
    write_text(out / "compare.toml", follow_up(choice, base, out))
    write_text(out / "table.md", choice_table(choice))
    write_text(out / "report.html", choice_page(choice))
    write_json(out / "choice.json", choice.model_dump(mode="json"))
