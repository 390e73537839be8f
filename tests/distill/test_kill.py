"""kill -9 at any moment: the same command goes on and ends with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Ten steps an epoch; batch norm, stochastic depth, mixing and random crops in both of them.
RECIPE = """
name = "killed"
[data]
batch_size = 128
[teacher]
name = "test_vit"
[teacher.train]
epochs = 1
precision = "fp32"
log_steps = 1
checkpoint_steps = 3
[teacher.optimizer]
name = "adamw"
lr = 3e-3
[student]
name = "test_resnet"
drop_path = 0.2
[train]
epochs = 2
precision = "fp32"
teacher_precision = "fp32"
log_steps = 1
[augment]
mixup = 0.8
cutmix = 1.0
"""
STEPS = {"teacher": 10, "student": 20}

Moment = Callable[[Path], bool]
Start = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """``start(out)``: the command, as a process of its own."""
    recipe = tmp_path_factory.mktemp("recipe") / "killed.toml"
    recipe.write_text(RECIPE)
    settings = ["--set", "train.checkpoint_steps=3", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".src"), "OMP_NUM_THREADS": "1"}

    def run(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mldr_deploy", "distill", "--recipe", str(recipe)]
        return subprocess.Popen(
            [*command, "--out", str(out), *settings],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return run


@pytest.fixture(scope="module")
def undisturbed(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    finish(start(out))
    return out


def finish(process: subprocess.Popen[str]) -> str:
    """Standard error of a process that ends well."""
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    return told


def strike(process: subprocess.Popen[str], out: Path, moment: Moment, number: int) -> str:
    """Send the signal at the moment; standard error of the process that it ended."""
    while not moment(out):
        assert process.poll() is None, f"ended before the moment: {process.communicate()[1]}"
        time.sleep(0.0002)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert not (out / "student" / "trained").exists()
    return told


def metrics(out: Path, stage: str) -> list[dict[str, float]]:
    """The stage's log without what a clock measured."""
    lines = (out / stage / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def logged(stage: str, text: str) -> Moment:
    """Until the stage's log holds ``text``."""

    def moment(out: Path) -> bool:
        path = out / stage / "metrics.jsonl"
        return path.exists() and text in path.read_text()

    return moment


def writing(out: Path) -> bool:
    """While the student's first or second checkpoint is half there."""
    return any((out / "student" / "checkpoints").glob(".step-*.tmp"))


def assert_as_if_nothing_had_happened(out: Path, undisturbed: Path) -> None:
    for stage, steps in STEPS.items():
        weights = Path(stage) / "trained" / "weights.safetensors"
        assert (out / weights).read_bytes() == (undisturbed / weights).read_bytes()
        assert metrics(out, stage) == metrics(undisturbed, stage)
        losses = [line["step"] for line in metrics(out, stage) if "loss" in line]
        assert losses == list(range(1, steps + 1))


MOMENTS = [
    pytest.param(logged("student", '"step": 5,'), id="within-an-epoch", marks=pytest.mark.slow),
    pytest.param(logged("teacher", '"step": 5,'), id="teacher", marks=pytest.mark.slow),
    pytest.param(logged("student", '"step": 1,'), id="first-step", marks=pytest.mark.slow),
    pytest.param(writing, id="writing-a-checkpoint", marks=pytest.mark.slow),
    pytest.param(logged("student", '"val_top1"'), id="end-of-an-epoch", marks=pytest.mark.slow),
    pytest.param(logged("student", '"step": 17,'), id="second-epoch", marks=pytest.mark.slow),
    pytest.param(logged("student", '"step": 20,'), id="last-step", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_given_again_the_command_ends_with_the_same_bits(
    moment: Moment, start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path)
    strike(process, tmp_path, moment, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    finish(start(tmp_path))
    assert_as_if_nothing_had_happened(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_writes_a_checkpoint_and_says_so(
    number: signal.Signals, start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path)
    told = strike(process, tmp_path, logged("student", '"step": 4,'), number)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "Interrupted."
    last = int(metrics(tmp_path, "student")[-1]["step"])
    checkpoint = max((tmp_path / "student" / "checkpoints").iterdir())  # and the one before it
    assert checkpoint.name == f"step-{last:08d}"
    assert f"resuming at step {last} of 20" in finish(start(tmp_path))
    assert_as_if_nothing_had_happened(tmp_path, undisturbed)
