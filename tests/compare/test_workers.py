"""What each worker of a comparison may use of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mldr_deploy.compare import workers


@pytest.mark.parametrize(
    ("usable", "jobs", "threads"),
    [
        (8, 2, [4, 4]),
        (3, 2, [1, 2]),
        (2, 2, [1, 1]),  # a CPU quota of 2 on a machine of 8 cores
        (1, 3, [1, 1, 1]),
    ],
)
def test_workers_share_the_usable_cores(
    usable: int, jobs: int, threads: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(workers, "usable_cores", lambda: usable)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(workers.subprocess, "Popen", lambda command, **keys: started.append(keys))
    workers.start_workers(jobs, ["compare"], tmp_path, devices=["cpu"])
    assert [int(keys["env"]["OMP_NUM_THREADS"]) for keys in started] == threads
