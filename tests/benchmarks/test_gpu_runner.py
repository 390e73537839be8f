"""Parts within limits: whatever becomes of one, the archive says so and the others run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from results import Results, read_archive, rows_of
from scale import FULL, REHEARSAL
from schedule import LIMITS, step_of

from mldr_deploy.errors import MldrError

# Forked from a process without torch and threads, as the tests' own is not.
SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path
from results import Results
from runner import PartPlan, StepPlan, run_step

folder = Path(sys.argv[1])
marks = folder / "marks"  # a line each time that a case is begun

def case(name, work=lambda: {"figure": 7}):
    def marked():
        with marks.open("a") as file:
            file.write(name + "\\n")
        return work()
    return marked

def fail():
    raise ValueError("a planted fault")

def leave():
    child = subprocess.Popen(["sleep", "600"])
    with (folder / "pids").open("a") as file:
        file.write(f"{os.getpid()} {child.pid}\\n")
    return {"figure": 7}

def sleep():
    leave()
    time.sleep(600)

def die():
    os.kill(os.getpid(), 9)

def no_cases(part):
    raise ValueError("a fault before the first case")

def part(name, seconds=60, always=False, **cases):
    marked = {key: case(f"{name}.{key}", work) for key, work in cases.items()}
    return PartPlan(name, seconds, lambda part: marked, always)

def good():
    return {"figure": 7}

def run(groups, limit=600, late=0):
    results = Results(folder / "results", folder / "gpu.zip")
    print(run_step(StepPlan(limit, 0, groups), results, time.time() - late))
"""


@pytest.fixture
def started(tmp_path: Path, gpu_folder: Path) -> Any:
    """``started(code)``: a process that runs SCRIPT and ``code`` in a folder of its own."""

    def start(code: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(gpu_folder), str(gpu_folder.parents[1] / ".src")])
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT + code, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def marks(folder: Path) -> list[str]:
    return (folder / "marks").read_text().split()


def wait_until_gone(pid: int) -> None:
    """A killed process is gone, or is nobody's any more and waits to be counted as such."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still runs")


def test_whatever_becomes_of_a_part_the_next_runs(started: Any, tmp_path: Path) -> None:
    finished(
        started(
            "run([[part('raises', bad=fail, after=good)], [PartPlan('early', 60, no_cases)],"
            "[part('sleeps', seconds=2.5, first=good, long=sleep), part('beside', x=good)],"
            "[part('dies', x=die)], [part('leaves', x=leave)], [part('last', x=good)]])"
        )
    )
    parts = read_archive(tmp_path / "gpu.zip")["parts"]
    states = {name: part["state"]["state"] for name, part in parts.items()}
    assert states == {
        "raises": "failed",
        "early": "failed",
        "sleeps": "timed out",
        "beside": "done",
        "dies": "failed",
        "leaves": "done",
        "last": "done",
    }
    assert "ValueError: a planted fault" in parts["raises"]["rows"]["bad"]["failed"]
    assert "Traceback" in parts["raises"]["rows"]["bad"]["failed"]
    assert parts["raises"]["rows"]["after"] == {"figure": 7}
    output = (tmp_path / "results/parts/early/output.txt").read_text()
    assert "ValueError: a fault before the first case" in output
    assert parts["sleeps"]["rows"] == {"first": {"figure": 7}}
    assert parts["sleeps"]["state"]["why"].endswith("it was at: long")
    assert parts["dies"]["state"]["why"].startswith("ended by signal 9")
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 4
    for pid in pids:
        wait_until_gone(int(pid))


def test_a_second_start_does_what_is_missing(started: Any, tmp_path: Path) -> None:
    groups = (
        "run([[part('a', x=good, y={work})], [part('b', x=good)], [part('c', 60, True, x=good)]])"
    )
    finished(started(groups.format(work="fail")))
    finished(started(groups.format(work="good")))
    assert marks(tmp_path) == ["a.x", "a.y", "b.x", "c.x", "a.y", "c.x"]
    parts = read_archive(tmp_path / "gpu.zip")["parts"]
    assert parts["a"]["rows"] == {"x": {"figure": 7}, "y": {"figure": 7}}
    assert {part["state"]["state"] for part in parts.values()} == {"done"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_leaves_the_archive_and_no_process(
    started: Any, tmp_path: Path, number: signal.Signals
) -> None:
    groups = "run([[part('a', x=good)], [part('b', x=good, y={work})], [part('c', x=good)]])"
    process = started(groups.format(work="sleep"))
    while not (tmp_path / "pids").is_file() or not (tmp_path / "pids").read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate()
    part, _ = map(int, (tmp_path / "pids").read_text().split())
    wait_until_gone(part)
    assert read_archive(tmp_path / "gpu.zip")["parts"]["a"]["state"]["state"] == "done"
    finished(started(groups.format(work="good")))
    assert marks(tmp_path) == ["a.x", "b.x", "b.y", "b.y", "c.x"]


def test_no_part_begins_without_time_but_what_must_end_the_step(
    started: Any, tmp_path: Path
) -> None:
    code = "run([[part('a', x=good)], [part('b', 30, True, x=good)]], limit=600, late=600 - 34)"
    finished(started(code))
    parts = read_archive(tmp_path / "gpu.zip")["parts"]
    assert parts["a"]["state"] == {"state": "skipped", "why": "no time was left in this step"}
    assert parts["b"]["state"]["state"] == "done"
    assert parts["b"]["state"]["limit"] <= 30


@pytest.mark.parametrize("scale", [FULL, REHEARSAL])
def test_the_limits_add_up(scale: Any, tmp_path: Path) -> None:
    assert LIMITS[1] <= 180 and LIMITS[2] <= 510 and sum(LIMITS.values()) <= 12 * 60
    results = Results(tmp_path, tmp_path / "gpu.zip")
    for number, limit in LIMITS.items():
        step = step_of(number, scale, results)
        alone = sum(max(part.seconds for part in group) for group in step.groups)
        assert step.start + alone < step.promised <= step.limit == limit


def test_a_line_that_was_cut_off_does_not_count() -> None:
    lines = b'{"case": "a", "x": 1}\n{"case": "b", "x": 2}\n{"case": "a", "x": 3}\n{"case": "c", '
    assert rows_of(lines) == {"a": {"x": 3}, "b": {"x": 2}}


def test_a_file_that_vanishes_does_not_matter(tmp_path: Path) -> None:
    """As checkpoints do, between being listed and being read."""
    results = Results(tmp_path / "results", tmp_path / "gpu.zip")
    results.part("a").begin()
    results.part("a").write("x", {"figure": 7})
    (results.folder / "gone.json").symlink_to(tmp_path / "nowhere")
    (results.folder / "weights.safetensors").write_bytes(b"large")
    (results.folder / "long.txt").write_bytes(b"-" * 2**20 + b"end")
    results.save()
    assert read_archive(tmp_path / "gpu.zip")["parts"]["a"]["rows"] == {"x": {"figure": 7}}
    with zipfile.ZipFile(tmp_path / "gpu.zip") as archive:
        assert sorted(archive.namelist()) == ["long.txt", "parts/a/rows.jsonl"]
        assert len(archive.read("long.txt")) == 2**20 and archive.read("long.txt").endswith(b"-end")


def test_figures_of_two_machines_do_not_mix(tmp_path: Path) -> None:
    results = Results(tmp_path, tmp_path / "gpu.zip")
    results.require_same({"rehearsal": True, "card": None})
    results.require_same({"rehearsal": True, "card": None})
    with pytest.raises(
        MldrError, match="holds figures of a rehearsal, not of a Card 9: name anoth"
    ):
        results.require_same({"rehearsal": False, "card": "Card 9"})


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gpu.zip").write_bytes(content)
    with pytest.raises(MldrError, match=r"gpu\.zip cannot be read as the archive of a run"):
        read_archive(tmp_path / "gpu.zip")
