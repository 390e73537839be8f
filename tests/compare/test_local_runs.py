"""Runs side by side: what each may use of this machine, and what is told of those that end."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.compare import local_runs
from mldr_deploy.compare.local_runs import LocalRuns, jobs_here
from mldr_deploy.compare.outcomes import teacher_outcome
from mldr_deploy.compare.recent_data import RecentData
from mldr_deploy.compare.units import Unit
from mldr_deploy.compare.workers import Failures, note_failure
from mldr_deploy.pipeline.recipe import load_recipe


def units(folder: Path, count: int) -> list[Unit]:
    return [
        Unit(
            name=f"run {k}",
            folder=folder / str(k),
            recipe=load_recipe("digits"),
            work=teacher_outcome,
        )
        for k in range(count)
    ]


def carry_out(runs: list[Unit], jobs: int, folder: Path) -> None:
    everything = LocalRuns(jobs, folder / "logs")
    everything(runs, device="cpu", data=RecentData(), progress=Silent())


@pytest.mark.parametrize(
    ("usable", "jobs", "threads"),
    [
        (8, 2, [4, 4]),
        (3, 2, [1, 2]),
        (2, 2, [1, 1]),  # a CPU quota of 2 on a machine of 8 cores
        (1, 3, [1, 1, 1]),
        (8, 4, [2, 2, 2]),  # three runs: each with its share all the same
    ],
)
def test_processes_share_the_usable_cores(
    usable: int, jobs: int, threads: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []

    def ended(command: list[str], **keys: Any) -> SimpleNamespace:
        started.append(keys)
        return SimpleNamespace(stdin=io.BytesIO(), poll=lambda: 1, wait=lambda: 1)

    monkeypatch.setattr(local_runs, "usable_cores", lambda: usable)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(local_runs.subprocess, "Popen", ended)
    with pytest.raises(Failures, match="run 0 is not finished: a process ended early"):
        carry_out(units(tmp_path, len(threads)), jobs, tmp_path)
    assert [int(keys["env"]["OMP_NUM_THREADS"]) for keys in started] == threads


def test_a_run_that_is_alone_has_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out: list[str] = []
    monkeypatch.setattr(
        local_runs, "work", lambda runs, **_: carried_out.extend(run.name for run in runs)
    )
    carry_out(units(tmp_path, 1), 4, tmp_path)
    carry_out(units(tmp_path, 2), 1, tmp_path)
    assert carried_out == ["run 0", "run 0", "run 1"] and not (tmp_path / "logs").exists()


def test_a_reason_that_is_known_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = units(tmp_path, 2)
    for run in runs:
        run.folder.mkdir()
    note_failure(runs[1], "the loss is not finite", Silent())
    monkeypatch.setattr(LocalRuns, "_start", lambda *_: [])
    with pytest.raises(Failures, match="run 1 failed: the loss is not finite; the same command"):
        carry_out(runs, 2, tmp_path)


def test_a_training_a_core_and_four_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for usable, jobs in ((1, 1), (2, 2), (64, 4)):
        monkeypatch.setattr(local_runs, "usable_cores", lambda usable=usable: usable)
        assert jobs_here("cpu") == jobs
