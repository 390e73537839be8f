"""Pages of freed tensors stay with the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = """
import resource, statistics, sys, torch
from mldr_deploy.distill.memory import keep_pages
if sys.argv[1] == "keep":
    keep_pages()
def step():
    return torch.ones(16 << 20).sum()  # 64 MiB
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(statistics.median_low(faults() for _ in range(25)))  # the heap may grow now and then
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told")
def test_a_step_does_not_ask_for_its_pages_again() -> None:
    def faults(mode: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, mode],
            env=os.environ | {"PYTHONPATH": str(ROOT / ".src"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    kept, given_back = faults("keep"), faults("default")
    assert kept < 10
    assert given_back > 10 * max(kept, 1)  # else this machine's malloc keeps them by itself
