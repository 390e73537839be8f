"""What a report says of runs that are finished, failed or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from mldr_deploy import compare as carried_out
from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.tensors import write_tensors
from mldr_deploy.cli.group import main
from mldr_deploy.compare import comparison
from mldr_deploy.compare.comparison import MethodComparison, report_finished
from mldr_deploy.compare.recent_data import RecentData
from mldr_deploy.compare.units import Unit
from mldr_deploy.compare.workers import note_failure
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import load_dataset
from mldr_deploy.errors import MldrError
from mldr_deploy.pipeline.recipe import dump_recipe

OUTCOME = {
    "test_top5": 100.0,
    "parameters": 1000,
    "family": "cnn",
    "model": {"name": "x"},
    "train_seconds": 1.0,
    "val_top1": 1.0,
}
LATENCY = {"milliseconds_batch_1": 0.5, "passed": True, "machine": "a board"}


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int64]:
    return load_dataset(DataConfig()).test.labels


Finish = Callable[..., None]


@pytest.fixture
def finish(labels: NDArray[np.int64]) -> Finish:
    """Leaves what the training of a student leaves, ``wrong`` on that many test images."""

    def leave(unit: Unit, wrong: int, **more: object) -> None:
        unit.folder.mkdir(parents=True)
        (unit.folder / "recipe.toml").write_text(dump_recipe(unit.recipe))
        best = np.repeat(labels[:, None], 5, 1).astype(np.int32)
        best[:wrong] = (best[:wrong] + 1) % 10
        file = unit.folder / "test.safetensors"
        write_tensors(file, {"best_classes": best})
        top1 = round(100 * float((best[:, 0] == labels).mean()), 4)
        outcome = {"predictions_sha256": sha256(file), "test_top1": top1, **OUTCOME, **more}
        write_sealed(unit.folder / unit.file, outcome)

    return leave


@pytest.fixture
def opened(matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MethodComparison:
    """The matrix, in a folder where nothing is finished yet."""
    monkeypatch.setattr(comparison, "draw", lambda *_: None)
    return MethodComparison.open(matrix, tmp_path / "out")


def by_place(opened: MethodComparison) -> dict[tuple[str, int], Unit]:
    return {(run.method, run.seed): run for run in opened._students()}


@pytest.fixture
def trained(opened: MethodComparison, finish: Finish) -> Unit:
    """The run that is exported: all are finished, but for the export."""
    for run in opened.runs():
        finish(run, 10)
    return by_place(opened)["mldr-kd", 0]


def give(opened: MethodComparison, *arguments: str) -> Result:
    words = ["compare", str(opened.file), "--out", str(opened.out), "--quiet", *arguments]
    return CliRunner().invoke(main, words)


EXPORT = "export of vit, mldr-kd, seed 0"


def test_a_latency_is_told_with_the_machine_that_measured_it(
    opened: MethodComparison, trained: Unit
) -> None:
    write_sealed(trained.folder / "latency.json", LATENCY)
    result = give(opened, "--json")
    assert result.exit_code == 0, result.output
    envelope = json.loads(result.stdout)
    (pair,) = envelope["result"]["pairs"]
    assert (pair["milliseconds"], pair["machine"]) == (0.5, "a board")
    assert envelope["passed"] is True and envelope["result"]["failed"] == {}


def test_a_bundle_that_failed_a_gate_has_no_latency_and_is_told(
    opened: MethodComparison, trained: Unit
) -> None:
    write_sealed(trained.folder / "latency.json", {**LATENCY, "passed": False})
    result = give(opened, "--json")
    assert result.exit_code == 1
    said = f"{EXPORT}: its bundle failed a parity gate: `mldr-deploy check "
    assert result.stderr.startswith(f"Error: {said}")
    envelope: dict[str, Any] = json.loads(result.stdout)
    (pair,) = envelope["result"]["pairs"]
    assert pair["milliseconds"] is None and pair["machine"] is None
    assert [*envelope["result"]["failed"]] == [EXPORT] and envelope["passed"] is False
    assert f"Failed: {said}" in (opened.out / "table.md").read_text()


def test_an_export_that_failed_is_told(opened: MethodComparison, trained: Unit) -> None:
    note_failure(trained, "a layer has no ONNX form", Silent())
    results = report_finished(opened.file, opened.out, Silent())
    assert results.failed == {EXPORT: "a layer has no ONNX form"} and not results.missing
    assert results.as_json()["failed"] == results.failed
    assert json.loads(give(opened, "--report-only", "--json").stdout)["passed"] is False


def test_python_sees_an_export_that_fails(
    opened: MethodComparison, trained: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(unit: Unit, *_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(Unit, "carry_out", fail)
    results = carried_out(opened.file, out=opened.out)
    assert [*results.failed] == [EXPORT]
    assert results.failed[EXPORT].startswith("RuntimeError: no room")


def test_a_run_that_failed_is_not_told_as_its_export(opened: MethodComparison) -> None:
    note_failure(by_place(opened)["mldr-kd", 0], "the loss is not finite", Silent())
    results = report_finished(opened.file, opened.out, Silent())
    assert results.failed == {"vit, mldr-kd, seed 0": "the loss is not finite"}


def cells(opened: MethodComparison) -> list[str]:
    """The line of the table, of scratch, kd, mldr-kd and the gain."""
    report_finished(opened.file, opened.out, Silent())
    (row,) = [r for r in (opened.out / "table.md").read_text().splitlines() if "-> x" in r]
    return [cell.strip() for cell in row.strip("|").split("|")][2:]


def test_methods_are_compared_over_the_seeds_that_all_have(
    opened: MethodComparison, finish: Finish, labels: NDArray[np.int64]
) -> None:
    """The second seed is hard: who has not done it is no better for that, and gains no mark."""
    runs = by_place(opened)
    wrong = {("mldr-kd", 0): 20, ("mldr-kd", 1): 160, ("kd", 0): 60, ("kd", 1): 200}
    for place, count in wrong.items():
        finish(runs[place], count)
    finish(runs["scratch", 0], 70)
    points = 100 / len(labels)
    scratch, kd, focus, gain = cells(opened)
    assert scratch == f"{100 - 70 * points:.2f} (1 of 2 seeds)"
    assert kd.startswith(f"{100 - 130 * points:.2f} ± ") and "seeds" not in kd
    assert focus.startswith(f"**{100 - 90 * points:.2f}** ± ")  # best with seed 0, below scratch
    assert gain == f"{40 * points:+.2f} (kd)"  # though the mean of scratch is higher
    assert "no gain is marked" in (opened.out / "table.md").read_text()
    written = json.loads((opened.out / "results.json").read_text())["pairs"][0]
    assert written["common_seeds"] == [0] and written["against"]["significant"] is False

    finish(runs["scratch", 1], 240)
    scratch, kd, focus, gain = cells(opened)
    assert "seeds" not in scratch and gain == f"{40 * points:+.2f} (kd) *"
    assert "no gain is marked" not in (opened.out / "table.md").read_text()


def test_without_a_common_seed_nobody_is_best(opened: MethodComparison, finish: Finish) -> None:
    runs = by_place(opened)
    finish(runs["mldr-kd", 0], 20)
    finish(runs["kd", 1], 40)
    *scores, gain = cells(opened)
    assert not any("**" in score for score in scores) and gain == "-"


OTHERS = "holds a run on other pictures than digits as it is now: choose another --out"


@pytest.mark.parametrize("more", [{"data_fingerprint": "0" * 64}, {"test_images": 7}])
def test_runs_on_other_pictures_are_refused(
    opened: MethodComparison, finish: Finish, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their fingerprint; outcomes of older releases, which have none, by their count."""
    runs = by_place(opened)
    fingerprint = load_dataset(DataConfig()).fingerprint
    finish(runs["mldr-kd", 0], 20, data_fingerprint=fingerprint)
    finish(runs["mldr-kd", 1], 20)
    assert not report_finished(opened.file, opened.out, Silent()).failed
    finish(runs["scratch", 1], 20, **more)
    monkeypatch.setattr(Unit, "carry_out", lambda *_: pytest.fail("a run began"))
    for words in ([], ["--report-only"]):
        result = give(opened, *words)
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        assert result.stderr.startswith(f"Error: {runs['scratch', 1].folder} {OTHERS}")


def test_an_export_of_other_pictures_is_refused(opened: MethodComparison, trained: Unit) -> None:
    write_sealed(trained.folder / "latency.json", {**LATENCY, "data_fingerprint": "0" * 64})
    with pytest.raises(MldrError, match=OTHERS):
        report_finished(opened.file, opened.out, Silent())


def test_a_student_does_not_learn_from_a_teacher_of_other_pictures(
    opened: MethodComparison, finish: Finish
) -> None:
    run = by_place(opened)["kd", 0]
    assert run.needs is not None
    finish(run.needs, 20, data_fingerprint="0" * 64)
    untouched = replace(run, work=lambda _: pytest.fail("it began"))
    with pytest.raises(MldrError, match=f"teachers/resnet {OTHERS}"):
        untouched.carry_out("cpu", RecentData(), Silent())
