"""tests/gpu on this machine, a row a test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import Part, Row

ROOT = Path(__file__).resolve().parents[2]


def run(file: str, part: Part, *, on_gpu: bool) -> Callable[[], Row]:
    """A case that runs tests/gpu/``file``: counts, and a row of its own for every test.

    Raises AssertionError where a test failed, and where on a GPU all were skipped.
    """

    def work() -> Row:
        import pytest

        os.chdir(ROOT)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they cost seconds, and are not needed
        told = Outcomes(part)
        options = ["-q", "-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider"]
        code = pytest.main([*options, "-m", "not slow", f"tests/gpu/{file}"], plugins=[told])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise RuntimeError(f"pytest ended with {code!r}, see output.txt")
        if broken := told.counts["failed"]:
            raise AssertionError(f"{broken} tests failed")
        if on_gpu and not told.counts["passed"]:
            raise AssertionError("every test was skipped: PyTorch cannot use the GPU")
        return {name: told.counts[name] for name in ("passed", "skipped")}

    return work


class Outcomes:
    """A pytest plugin that writes how each test went."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test's set-up, call or tear-down is over."""
        if report.when != "call" and report.outcome == "passed":
            return
        name = report.nodeid.rpartition("::")[2]
        row: Row = {"outcome": report.outcome, "seconds": round(report.duration, 2)}
        if report.outcome == "failed":
            row["failed"] = report.longreprtext
        self.counts[report.outcome] += 1
        self.part.write(f"test {name}", row)
