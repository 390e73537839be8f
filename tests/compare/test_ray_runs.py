"""Runs on Ray: refused in words, repeated where a worker dies, with the bits of any other run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
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
from mldr_deploy.compare.ray_runs import training_engine
from mldr_deploy.compare.recent_data import RecentData
from mldr_deploy.errors import MldrError

ROOT = Path(__file__).resolve().parents[2]
ABSENT = 'Ray is not here: pip install "mldr-deploy[ray]"'
EPOCHS = 10  # so that a run lasts


def give(command: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [command, *arguments, "--quiet", "--device", "cpu"])


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray seems to be installed."""
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: name)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


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
    for option in (("--jobs", "2"), ("--report-only",)):
        result = give("compare", str(matrix), "--engine", "ray", *option)
        assert result.exit_code == 2
        assert f"--engine ray does not go with {option[0]}" in result.stderr
    with pytest.raises(MldrError, match="engine spark, cores of a run 1: allowed are local"):
        training_engine("spark", 1, 1)
    with pytest.raises(MldrError, match="2 jobs are for the local engine"):
        training_engine("ray", 1, 2)


@pytest.mark.usefixtures("present")
def test_an_address_that_nobody_answers_at_is_one_line(
    matrix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:  # bound, so that nobody else takes it, and not listening
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        result = give("compare", str(matrix), "--engine", "ray")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: no Ray cluster answers at {address} (Connection")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("present")
def test_more_cores_than_there_are_are_refused(matrix: Path) -> None:
    result = give("compare", str(matrix), "--engine", "ray", "--run-cores", "1024")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: --run-cores 1024 are more than this machine has: ")


# --- a real cluster

COMMAND = [sys.executable, "-m", "mldr_deploy", "compare"]
SETTINGS = {
    "PYTHONPATH": str(ROOT / ".src"),
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else they wait for whatever else is at work here
}


@pytest.fixture
def few(matrix: Path) -> Path:
    """One teacher and two students, without export; each run lasts a second or more."""
    text = matrix.read_text().replace("[0, 1]", "[0]\nexport = false")
    text = text.replace('["scratch", "kd", "mldr-kd"]', '["scratch", "mldr-kd"]')
    matrix.write_text(text.replace("epochs = 1\n", f"epochs = {EPOCHS}\n"))
    return matrix


def start(*arguments: str, address: str = "", **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | SETTINGS | {"RAY_ADDRESS": address},
        # A shell's background jobs, such as a test run may be, ignore Ctrl-C and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **settings,
    )


def finished(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate()
    assert process.returncode == 0 and "Traceback" not in printed, printed
    return printed


def facts(out: Path) -> dict[str, Any]:
    """The hash of every trained model's weights by its place, and the accuracies."""
    results = json.loads((out / "results.json").read_text())
    scores = [[score["top1"] for score in pair["scores"]] for pair in results["pairs"]]
    weights = {
        os.path.relpath(folder, out): sha256(Path(folder, "weights.safetensors"))
        for folder, _, files in os.walk(out)
        if "weights.safetensors" in files
    }
    assert len(weights) == 3 and scores
    return {"scores": scores, **weights}


def await_file(pattern: str, out: Path, process: subprocess.Popen[str]) -> Path:
    """The first file of ``pattern`` in ``out``, once it is there."""
    while (path := next(iter(out.glob(pattern)), None)) is None:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    return path


def run_at(parent: psutil.Process, out: Path) -> Path | None:
    """The run that a worker below ``parent`` has open, by its lock."""
    with contextlib.suppress(psutil.Error):
        for process in parent.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                for file in process.open_files():
                    path = Path(file.path)
                    if path.name == ".lock" and path.is_relative_to(out / "runs"):
                        return path.parent
    return None


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One machine of one core; further ones are added to it."""
    pytest.importorskip("ray", reason=ABSENT)
    from ray.cluster_utils import Cluster

    for name, setting in SETTINGS.items():  # what its workers begin with
        monkeypatch.setenv(name, setting)
    head = {"num_cpus": 1, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()


@pytest.mark.slow
def test_killed_in_the_middle_they_leave_the_same_bits(
    cluster: Any, few: Path, tmp_path: Path
) -> None:
    """First a worker's machine, then the command itself."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    finished(start(str(few), "--out", str(whole)))
    second = cluster.add_node(num_cpus=1)
    raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)
    on_ray = (str(few), "--out", str(out), "--engine", "ray")
    process = start(*on_ray, address=cluster.address)
    while (run := run_at(raylet, out)) is None or not any(run.glob("student/checkpoints/step-*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    cluster.remove_node(second, allow_graceful=False)
    assert not (run / "result.json").exists()
    printed = finished(process)
    assert "its worker died; begun again, 1 of 3 times" in printed
    assert "raylet" not in printed  # Ray's own words, on stdout
    assert facts(out) == facts(whole)

    shutil.rmtree(out)
    process = start(*on_ray, address=cluster.address)
    await_file("runs/*/*/*/student/checkpoints/step-*", out, process)
    process.kill()
    process.wait()
    assert not (out / "results.json").exists()
    finished(start(*on_ray, address=cluster.address))
    assert facts(out) == facts(whole)


@pytest.mark.slow
def test_a_machine_without_the_package_is_one_line(cluster: Any, few: Path, tmp_path: Path) -> None:
    cluster.remove_node(cluster.head_node)
    bare = cluster.add_node(num_cpus=1, include_dashboard=False, env_vars={"PYTHONPATH": ""})
    process = start(
        *(str(few), "--out", str(tmp_path / "out"), "--engine", "ray"), address=bare.address
    )
    printed, _ = process.communicate()
    assert process.returncode == 2 and "Traceback" not in printed, printed
    assert "a machine of the Ray cluster has no module 'mldr_deploy'" in printed


@pytest.mark.slow
def test_interrupted_runs_write_a_checkpoint_and_ray_ends(matrix: Path, tmp_path: Path) -> None:
    """In its first epoch, after which it would write another."""
    pytest.importorskip("ray", reason=ABSENT)
    text = matrix.read_text().replace("batch_size = 256", "batch_size = 4")
    matrix.write_text(text.replace("epochs = 5", "epochs = 5000, log_steps = 1"))
    out = tmp_path / "out"
    process = start(str(matrix), "--out", str(out), "--engine", "ray")
    run = out / "teachers" / "resnet" / "teacher"
    await_file("teachers/resnet/teacher/metrics.jsonl", out, process)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate()
    assert process.returncode == 130 and "Traceback" not in printed, printed
    assert any((run / "checkpoints").glob("step-*"))
    _, living = psutil.wait_procs(below, timeout=300)
    assert not living
