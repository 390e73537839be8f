"""Runs on Ray: refused in words, repeated where a worker dies, with the bits of any other run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from mldr_deploy.bundle import ray_cluster
from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.cli.group import main
from mldr_deploy.compare.matrix import load_matrix
from mldr_deploy.compare.ray_runs import RunEngine, WorkerTerms, _versions, carry_out
from mldr_deploy.compare.recent_data import RecentData
from mldr_deploy.compare.units import students
from mldr_deploy.errors import MldrError

ROOT = Path(__file__).resolve().parents[2]
ABSENT = 'Ray is not here: pip install "mldr-deploy[ray]"'


def give(command: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [command, *arguments, "--quiet", "--device", "cpu"])


def test_without_ray_it_is_one_line_before_data_are_read(
    matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    monkeypatch.setattr(RecentData, "load", lambda *_, **__: pytest.fail("data were read"))
    out = ("--out", str(tmp_path / "out"), "--engine", "ray")
    for words in (("compare", str(matrix)), ("choose", "--recipe", "digits", "--max-ms", "5")):
        result = give(*words, *out)
        line = 'Error: --engine ray needs Ray: pip install "mldr-deploy[ray]"\n'
        assert (result.exit_code, result.stderr) == (2, line)


def test_options_of_the_other_engine_are_refused(matrix: Path) -> None:
    result = give("compare", str(matrix), "--run-cores", "2")
    assert result.exit_code == 2 and "--run-cores needs --engine ray." in result.stderr
    result = give("compare", str(matrix), "--engine", "ray", "--jobs", "2")
    assert result.exit_code == 1 and "2 jobs are for the local engine" in result.stderr
    with pytest.raises(MldrError, match="engine spark with 1 cores a run: allowed are local"):
        RunEngine("spark")


def test_a_machine_that_is_not_like_the_others_is_told(matrix: Path, tmp_path: Path) -> None:
    unit = students(load_matrix(matrix), Path("out"), {})[0]
    elsewhere = WorkerTerms(str(tmp_path), 1, None, _versions())
    report = carry_out(unit, "cpu", elsewhere)
    assert report.state == "unavailable"
    assert f"does not see {tmp_path / unit.folder}: --out and" in report.reason
    older = WorkerTerms(str(tmp_path), 1, None, {**_versions(), "torch": "1.0"})
    report = carry_out(unit, "cpu", older)
    assert report.state == "unavailable" and ", not 1.0: install the same" in report.reason


# --- a real cluster

COMMAND = [sys.executable, "-m", "mldr_deploy", "compare"]
SETTINGS = {"PYTHONPATH": str(ROOT / ".src"), "OMP_NUM_THREADS": "1"}


def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | SETTINGS | settings,
        # A shell's background jobs, such as a test run may be, ignore Ctrl-C and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def weights(out: Path) -> dict[str, str]:
    """The hash of every trained model's weights, by its place."""
    return {
        os.path.relpath(folder, out): sha256(Path(folder, "weights.safetensors"))
        for folder, _, files in os.walk(out)
        if "weights.safetensors" in files
    }


def tasks(parent: psutil.Process) -> list[str]:
    """Names of the runs that workers of ``parent`` are at; Ray calls their processes so."""
    names = []
    with contextlib.suppress(psutil.Error):
        for process in parent.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("ray::") and "seed" in title:
                    names.append(title)
    return names


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One machine of one core; further ones are added to it."""
    pytest.importorskip("ray", reason=ABSENT)
    from ray.cluster_utils import Cluster

    for name, setting in SETTINGS.items():  # what its workers begin with
        monkeypatch.setenv(name, setting)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    head = {"num_cpus": 1, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_leaves_the_same_bits(
    cluster: Any, matrix: Path, tmp_path: Path
) -> None:
    matrix.write_text(matrix.read_text().replace("[0, 1]", "[0]\nexport = false"))
    whole, out = tmp_path / "whole", tmp_path / "out"
    local = start(str(matrix), "--out", str(whole))
    printed, _ = local.communicate()
    assert local.returncode == 0, printed
    second = cluster.add_node(num_cpus=1)
    raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)
    process = start(
        *(str(matrix), "--out", str(out), "--engine", "ray"), RAY_ADDRESS=cluster.address
    )
    while not tasks(raylet):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    cluster.remove_node(second, allow_graceful=False)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert weights(out) == weights(whole) and len(weights(out)) == 4
    assert "Traceback" not in printed


@pytest.mark.slow
def test_interrupted_runs_write_a_checkpoint_and_ray_ends(matrix: Path, tmp_path: Path) -> None:
    """In its first epoch, after which it would write another."""
    text = matrix.read_text().replace("batch_size = 256", "batch_size = 4")
    matrix.write_text(text.replace("epochs = 5", "epochs = 5000, log_steps = 1"))
    out = tmp_path / "out"
    process = start(str(matrix), "--out", str(out), "--engine", "ray", RAY_ADDRESS="")
    run = out / "teachers" / "resnet" / "teacher"
    while not (run / "metrics.jsonl").is_file():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate()
    assert process.returncode == 130 and "Traceback" not in printed, printed
    assert any((run / "checkpoints").glob("step-*"))
    _, living = psutil.wait_procs(below, timeout=300)
    assert not living
