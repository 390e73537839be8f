"""What a worker of a Ray cluster refuses, in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.compare import ray_task
from mldr_deploy.compare.matrix import load_matrix
from mldr_deploy.compare.ray_task import WorkerTerms, carry_out
from mldr_deploy.compare.units import Unit, students
from mldr_deploy.compare.workers import failure, note_failure


def test_a_machine_that_is_not_like_the_others_is_told(matrix: Path, tmp_path: Path) -> None:
    unit = students(load_matrix(matrix), Path("out"), {})[0]
    elsewhere = replace(WorkerTerms.here(1), folder=str(tmp_path))
    report = carry_out(unit, "cpu", elsewhere)
    assert report.state == "unavailable"
    assert f"does not see {tmp_path / unit.folder}: --out and" in report.reason
    older = replace(elsewhere, versions={**elsewhere.versions, "torch": "1.0"})
    report = carry_out(unit, "cpu", older)
    assert report.state == "unavailable"
    assert "has torch " in report.reason and ", not 1.0: install the same" in report.reason


def test_an_error_that_nobody_expected_is_its_runs_alone(
    matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    unit = students(load_matrix(matrix), tmp_path, {})[0]
    unit.folder.mkdir(parents=True)
    monkeypatch.setattr(Unit, "carry_out", broken)
    monkeypatch.setattr(ray_task, "_settle", lambda terms: None)
    report = carry_out(unit, "cpu", WorkerTerms.here(1))
    assert report.state == "failed"
    assert report.reason.startswith("RuntimeError: out of memory (traceback in ")
    assert "in broken" in (unit.folder / "traceback.txt").read_text()
    monkeypatch.setattr(Unit, "carry_out", lambda *_: None)
    note_failure(unit, report.reason, Silent())
    assert carry_out(unit, "cpu", WorkerTerms.here(1)).state == "done" and failure(unit) is None
