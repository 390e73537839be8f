"""Each fault of the catalogue is noticed and its place told; healthy exports raise no alarm."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.tests.export.faults.catalogue import CATALOGUE
from mldr_deploy.tests.export.faults.fault import Fault
from mldr_deploy.tests.export.faults.harness import Case, checked, exported, written
from mldr_deploy.tests.export.faults.healthy import HEALTHY, alarms
from mldr_deploy.tests.export.faults.subjects import SUBJECTS, Recipe, Subject, train

SLOW_SUBJECTS = ("vit", "half", "int8", "vim")  # training and exporting them takes long
Ready = Callable[[str], tuple[Subject, Bundle]]


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """``ready(name)``: a trained subject and its healthy bundle, made when first asked for."""
    made: dict[str, tuple[Subject, Bundle]] = {}

    def get(name: str) -> tuple[Subject, Bundle]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            subject = train(SUBJECTS[name], folder / "run")
            made[name] = subject, subject.exported(folder / "bundle")
        return made[name]

    return get


SLOW = ("transposed head", "non-EMA weights beside the artifact, hashes made right")


def marked(fault: Fault) -> object:
    slow = [pytest.mark.slow] if fault.subject in SLOW_SUBJECTS or fault.name in SLOW else []
    return pytest.param(fault, marks=slow, id=fault.name)


@pytest.mark.parametrize("fault", map(marked, CATALOGUE))
def test_a_fault_is_noticed_and_its_place_told(fault: Fault, ready: Ready, tmp_path: Path) -> None:
    verdict = fault.inject(Case(*ready(fault.subject), tmp_path))
    assert verdict
    unsaid = [part for part in fault.says if not re.search(part, verdict.alarm)]
    assert not unsaid, verdict.alarm


@pytest.mark.parametrize("name", ["cnn", pytest.param("vit", marks=pytest.mark.slow)])
def test_the_same_without_a_fault_raises_no_alarm(name: str, ready: Ready, tmp_path: Path) -> None:
    case = Case(*ready(name), tmp_path)
    assert case.healthy
    with written(case.healthy, {}):
        assert exported(case, case.subject.folder).alarm == ""
    assert checked(case.healthy.path, case.subject).alarm == ""


def test_the_catalogue_is_large_and_its_names_tell_apart() -> None:
    assert len({fault.name for fault in CATALOGUE}) == len(CATALOGUE) >= 24
    assert len({recipe.name for recipe in HEALTHY}) == len(HEALTHY) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("recipe", HEALTHY[2:6], ids=lambda recipe: recipe.name)
def test_a_healthy_export_raises_no_alarm(recipe: Recipe, tmp_path: Path) -> None:
    assert alarms(recipe, tmp_path).alarms == []
