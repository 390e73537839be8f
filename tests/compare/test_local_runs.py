"""Runs side by side: what each may use of this machine, and what is told of those that end."""

from __future__ import annotations

import io
import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.compare import local_runs
from mldr_deploy.compare.local_runs import LocalRuns, jobs_here
from mldr_deploy.compare.outcomes import teacher_outcome
from mldr_deploy.compare.recent_data import RecentData
from mldr_deploy.compare.units import Unit
from mldr_deploy.compare.workers import Failures, failure, note_failure, work
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


class EndingProcess:
    """In the place of a process: takes what is open, and ends with ``code`` at run 1."""

    code: ClassVar[int]
    orders: ClassVar[list[list[str]]]

    def __init__(self, *_: object, **__: object) -> None:
        self.stdin, self.order = io.BytesIO(), b""
        self.stdin.close = self.receive  # type: ignore[method-assign]
        self.ended: int | None = None

    def receive(self) -> None:
        self.order = self.stdin.getvalue()

    def poll(self) -> int:
        if self.ended is None:
            self.ended = self.carried_out(pickle.loads(self.order))
        return self.ended

    wait = poll

    def carried_out(self, runs: list[Unit]) -> int:
        self.orders.append([run.name for run in runs])
        for run in runs:
            if failure(run) is not None:
                continue
            if run.name == "run 1":
                run.work.file.write_text(run.work.run)  # type: ignore[attr-defined]
                return self.code
            if not run.finished:
                run.folder.mkdir()
                (run.folder / run.file).write_text("{}")
        return 0


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> type[EndingProcess]:
    monkeypatch.setattr(EndingProcess, "orders", [], raising=False)
    monkeypatch.setattr(local_runs.subprocess, "Popen", EndingProcess)
    monkeypatch.setattr(local_runs, "_POLL_SECONDS", 0.0)
    return EndingProcess


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-signal.SIGKILL, "its process was ended by signal 9: out of memory?"),
        (137, "its process was ended by signal 9: out of memory?"),
        (-signal.SIGSEGV, "its process was ended by signal 11: the end of "),
        (3, "its process ended with code 3: the end of "),
    ],
)
def test_a_run_that_kills_its_process_fails_alone(
    ending: type[EndingProcess], code: int, said: str, tmp_path: Path
) -> None:
    ending.code = code
    runs = units(tmp_path, 4)
    with pytest.raises(Failures, match=r"^run 1 failed: its process .*; the same command tries"):
        carry_out(runs, 2, tmp_path)
    assert [run.name for run in runs if run.finished] == ["run 0", "run 2", "run 3"]
    reasons = [failure(run) for run in runs]
    assert reasons[1] is not None and reasons[1].startswith(said)
    assert ending.orders[2:] == [["run 0", "run 2", "run 3"]]  # another began, without it


def test_a_process_that_is_asked_to_end_is_no_failure_of_its_run(
    ending: type[EndingProcess], tmp_path: Path
) -> None:
    ending.code = -signal.SIGTERM
    runs = units(tmp_path, 2)
    with pytest.raises(Failures, match="run 1 is not finished: a process ended early"):
        carry_out(runs, 2, tmp_path)
    assert len(ending.orders) == 2  # nobody began again


def test_what_no_process_was_left_for_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = units(tmp_path, 3)
    monkeypatch.setattr(LocalRuns, "_start", lambda *_: [])
    note_failure(runs[0], "the loss is not finite", Silent())
    with pytest.raises(Failures, match="run 0 failed: the loss is not finite"):
        carry_out(runs, 2, tmp_path)
    said = f"a process ended early, the end of its log in {tmp_path / 'logs'} says why"
    assert [failure(run) for run in runs[1:]] == [said, said]


WORKS = """
import os

def ends(pipeline):
    return {"val_top1": 1.0}

def kills(pipeline):
    os._exit(137)

def has_a_bug(pipeline):
    raise RuntimeError("out of memory\\nand more")
"""


@pytest.fixture
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    """Works of runs that other processes can import."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "works_of_runs.py").write_text(WORKS)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    paths = (str(tmp_path / "modules"), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    import works_of_runs  # type: ignore[import-not-found]

    found: dict[str, Callable[..., Any]] = vars(works_of_runs)
    return found


def test_an_error_that_nobody_expected_is_its_runs_alone(
    works: dict[str, Callable[..., Any]], tmp_path: Path
) -> None:
    runs = units(tmp_path, 3)
    kinds = ("ends", "has_a_bug", "ends")
    runs = [replace(run, work=works[kind]) for run, kind in zip(runs, kinds, strict=True)]
    with pytest.raises(
        Failures, match=r"run 1 failed: RuntimeError: out of memory \(traceback in "
    ):
        work(runs, device="cpu", data=RecentData(), progress=Silent())
    assert [run.finished for run in runs] == [True, False, True]
    trace = (runs[1].folder / "traceback.txt").read_text()
    assert "in has_a_bug" in trace and "and more" in trace
    work([replace(runs[1], work=works["ends"])], device="cpu", data=RecentData(), progress=Silent())
    assert not any((runs[1].folder / name).exists() for name in ("failed.json", "traceback.txt"))


def test_an_interrupt_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Unit, "carry_out", interrupt)
    (run,) = units(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        carry_out([run], 1, tmp_path)
    assert failure(run) is None


@pytest.mark.slow
def test_killed_for_memory_a_run_leaves_the_others(
    works: dict[str, Callable[..., Any]], tmp_path: Path
) -> None:
    kinds = ("ends", "kills", "has_a_bug", "ends", "ends")
    runs = units(tmp_path, 5)
    runs = [replace(run, work=works[kind]) for run, kind in zip(runs, kinds, strict=True)]
    with pytest.raises(Failures, match=r"run 1 failed \(and 1 more\): .* signal 9: out of memory"):
        carry_out(runs, 2, tmp_path)
    assert [run.finished for run in runs] == [True, False, False, True, True]
    assert (failure(runs[2]) or "").startswith("RuntimeError: out of memory (traceback in ")
