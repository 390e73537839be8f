"""A process that the environment makes one of several: whom it waits for, and how it is stopped."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mldr_deploy.errors import Unavailable
from mldr_deploy.pipeline import meeting as subject
from mldr_deploy.pipeline.meeting import meeting, wait_notice

ROOT = Path(__file__).resolve().parents[2]
NAMES = (*subject._SIZE, *subject._RANK, *subject._LOCAL_SIZE, *subject._ADDRESS)
MET = {"WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": "29611"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("given", "device", "told"),
    [
        (MET, "cpu", "process 0 of 2 (0 is the first) waits for the others at node1:29611"),
        (MET | {"RANK": "1"}, "cpu", "process 1 of 2 (0 is the first) waits for the others at"),
        (MET | {"LOCAL_RANK": "0"}, "auto", "process 0 of 2"),
        (MET | {"LOCAL_RANK": "0"}, "cuda:1", "process 0 of 2"),
        ({"WORLD_SIZE": "3", "MASTER_ADDR": "::1"}, "cpu", "at ::1:29500"),
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "MASTER_ADDR": "h"},
            "cpu",
            "3 of 4",
        ),
        ({"PMI_SIZE": "2", "PMI_RANK": "1", "MASTER_ADDR": "h"}, "cpu", "process 1 of 2"),
    ],
)
def test_who_is_waited_for_where_and_what_to_unset(
    given: dict[str, str], device: str, told: str, environment: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    line = str(meeting(device))
    assert told in line
    unset = line.partition("for one process alone: unset ")[2]
    assert set(unset.split()) == set(given)


@pytest.mark.parametrize(
    ("given", "device"),
    [
        ({}, "cpu"),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "h"}, "cpu"),
        (MET, "auto"),  # Accelerate goes by LOCAL_RANK there
        ({"WORLD_SIZE": "-1"}, "cpu"),
        ({"MASTER_ADDR": "h", "MASTER_PORT": "1"}, "cpu"),
    ],
)
def test_a_process_on_its_own_waits_for_nobody(
    given: dict[str, str], device: str, environment: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    assert meeting(device) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two in the environment is no number: unset it"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE= in the environment is no number"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x in the environment is no number"),
        (MET | {"RANK": "2"}, "there is no process 2 of 2 (0 is the first): for one process alone"),
        ({"WORLD_SIZE": "2"}, "process 0 of 2, but not where they meet (MASTER_ADDR)"),
        (
            MET | {"MASTER_PORT": "http"},
            "MASTER_PORT=http is no port: for one process alone: unset",
        ),
        (MET | {"MASTER_PORT": "70000"}, "MASTER_PORT=70000 is no port"),
    ],
)
def test_a_meeting_that_cannot_be_is_refused(
    given: dict[str, str], message: str, environment: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    with pytest.raises(Unavailable) as refused:
        meeting("cpu")
    assert message in str(refused.value) and "\n" not in str(refused.value)


class Told(io.StringIO):
    """Standard error that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()

    def flush(self) -> None:
        self.arrived.set()


def test_waiting_is_told_once_and_ctrl_c_ends_it(environment: pytest.MonkeyPatch) -> None:
    for name, value in MET.items():
        environment.setenv(name, value)
    told, before = Told(), signal.getsignal(signal.SIGINT)
    environment.setattr(sys, "stderr", told)
    environment.setattr(subject, "SECONDS", 0.0)
    with wait_notice("cpu"), wait_notice("cpu"):
        assert told.arrived.wait(60)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before
    assert told.getvalue().count("waits for the others at node1:29611") == 1
    assert told.getvalue().endswith("Ctrl-C stops\n")


def test_nothing_is_told_of_a_process_on_its_own(environment: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    environment.setattr(threading, "Timer", None)
    with wait_notice("cpu"):
        assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_peer_that_never_comes(rank: str, free_port: int, tmp_path: Path) -> None:
    """The command itself: one line, also with --quiet, and Ctrl-C stops it though PyTorch waits."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}
    settings = MET | place | {"RANK": rank, "PYTHONPATH": str(ROOT / ".src")}
    environment = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
    words = ["distill", "--device", "cpu", "--quiet", "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        [sys.executable, "-m", "mldr_deploy", *words],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment | settings,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
    assert line.startswith(
        f"process {rank} of 2 (0 is the first) waits for the others at 127.0.0.1"
    )
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("settings", "threads"),
    [
        ({}, None),  # on its own
        (MET, 6),
        (MET | {"LOCAL_WORLD_SIZE": "4"}, 1),
        (MET | {"MPI_LOCALNRANKS": "9"}, 1),
        (MET | {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "6"}, 3),  # a quota's number
        (MET | {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "5"}, None),  # somebody's own
    ],
)
def test_peers_on_a_machine_share_its_usable_cores(
    environment: pytest.MonkeyPatch, settings: dict[str, str], threads: int | None
) -> None:
    environment.delenv("OMP_NUM_THREADS", raising=False)
    environment.setattr(subject, "usable_cores", lambda: 6)
    for name, value in settings.items():
        environment.setenv(name, value)
    assert subject.peer_threads("cpu") == threads
