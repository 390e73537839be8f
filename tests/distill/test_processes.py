"""Two processes (gloo) against one at the same global batch, through the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.trained import load_trained
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import load_dataset
from mldr_deploy.distill.training_log import read_metrics
from mldr_deploy.export.trained_student import load_student
from mldr_deploy.export.training_evidence import require_same_function

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

# Nothing random, and batch statistics in one alone: the split of a batch is the only difference.
RECIPE = """
name = "shared"
[data]
batch_size = 256
[teacher]
name = "test_resnet"
[teacher.train]
epochs = 5
precision = "fp32"
[teacher.optimizer]
name = "adamw"
lr = 1e-2
[student]
name = "test_vit"
[train]
epochs = 1
precision = "fp32"
teacher_precision = "fp32"
log_steps = 1
clip_norm = 1.0
[augment]
crop = "none"
flip = 0
"""
# At this temperature the relations of barely trained models stand well above rounding.
SHARP = "method.mldr_kd.temperature=0.03"
METHODS = {
    "scratch": ["method.name=scratch"],
    "batch-norm": [
        "method.name=scratch",
        *("--set", "student.name=test_resnet", "--set", "train.epochs=3"),
        *("--set", "data.batch_size=64", "--set", "optimizer.lr=0.1"),
    ],
    "gathered": ["method.mldr_kd.relations=gathered", "--set", SHARP],
    "local": ["method.mldr_kd.relations=local", "--set", SHARP],
}
CRD = {
    "crd": [
        "method.name=crd",
        "--set",
        "method.crd.negatives=64",
        "--set",
        "method.crd.dimension=16",
    ]
}
# One interpreter a process for all runs: importing costs more than training. CRD's negatives are
# drawn by each process for itself, so here they follow from the image.
RUN_ALL = """
import json, sys
from mldr_deploy.cli.group import main
from mldr_deploy.distill.methods.crd import Negatives
def forward(self, indices, number):
    import torch
    own = self.labels[indices]
    place = 31 * indices[:, None] + 17 * torch.arange(number)
    place = place % (len(self.labels) - self.count[own][:, None])
    first, count = self.first[own][:, None], self.count[own][:, None]
    return self.by_class[torch.where(place < first, place, place + count)]
Negatives.forward = forward
for arguments in json.loads(sys.argv[1]):
    if main(arguments, standalone_mode=False):
        sys.exit(1)
"""


def start(runs: list[list[str]], **environment: str) -> subprocess.Popen[str]:
    """A process that gives these commands, with torchrun's variables in its environment."""
    settings = {"PYTHONPATH": str(ROOT / ".src"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", RUN_ALL, json.dumps(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | settings | environment,
    )


def wait(process: subprocess.Popen[str]) -> None:
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, free_port: int) -> Path:
    """one/METHOD and two/METHOD: every method by one process and by two, from one teacher."""
    return carried_out(tmp_path_factory.mktemp("processes"), METHODS, free_port)


@pytest.fixture(scope="module")
def crd_runs(tmp_path_factory: pytest.TempPathFactory, free_port: int) -> Path:
    """The same of CRD."""
    return carried_out(tmp_path_factory.mktemp("crd"), CRD, free_port)


def carried_out(folder: Path, methods: dict[str, list[str]], port: int) -> Path:
    (folder / "shared.toml").write_text(RECIPE)
    common = ["--recipe", str(folder / "shared.toml"), "--device", "cpu", "--quiet", "--out"]
    teacher = str(folder / "teacher")

    def commands(where: str) -> list[list[str]]:
        settings = ["--set", f"teacher.weights={teacher}/teacher/trained"]
        return [
            ["distill", *common, str(folder / where / name), *settings, "--set", *method]
            for name, method in methods.items()
        ]

    wait(start([["train-teacher", *common, teacher], *commands("one")]))
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    meeting |= {"LOCAL_WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    pair = [start(commands("two"), RANK=rank, LOCAL_RANK=rank, **meeting) for rank in "01"]
    for process in pair:
        wait(process)
    return folder


def losses(runs: Path, processes: str, method: str) -> list[dict[str, float]]:
    """Every step's losses, as the one log has them: their mean over the processes."""
    folder = runs / processes / method / "student"
    (log,) = folder.rglob("metrics.jsonl")
    known = ("step", "epoch", "lr", "images_per_second")
    steps = [line for line in read_metrics(log.parent) if "loss" in line]
    return [{name: value for name, value in s.items() if name not in known} for s in steps]


@pytest.mark.parametrize("method", ["scratch", "gathered"])
def test_losses_agree_step_by_step(runs: Path, method: str) -> None:
    one, two = (losses(runs, processes, method) for processes in ("one", "two"))
    assert len(one) == 5
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", ["scratch", "gathered"])
def test_final_weights_agree(runs: Path, method: str) -> None:
    one, two = (load_trained(runs / n / method / "student" / "trained") for n in ("one", "two"))
    assert two[0].provenance["processes"] == 2
    for name, weight in one[1].items():
        np.testing.assert_allclose(two[1][name], weight, rtol=1e-3, atol=1e-4, err_msg=name)


def test_what_is_recorded_is_what_the_kept_statistics_give(runs: Path) -> None:
    """Each process has batch statistics of its own, and the first one's are kept."""
    trained = runs / "two" / "batch-norm" / "student" / "trained"
    dataset = load_dataset(DataConfig(source="digits"))
    assert require_same_function(load_student(trained), dataset, trained, Silent()) is not None


def test_crd_remembers_what_all_processes_saw(crd_runs: Path) -> None:
    """Its losses depend on the memories and on Z, so those are one process's too."""
    one, two = (losses(crd_runs, processes, "crd") for processes in ("one", "two"))
    assert len(one) == 5 and one[0].keys() >= {"labels", "crd.student", "crd.teacher"}
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4)
    kept = [load_trained(crd_runs / n / "crd" / "student" / "trained")[1] for n in ("one", "two")]
    for name, weight in kept[0].items():
        np.testing.assert_allclose(kept[1][name], weight, rtol=1e-3, atol=1e-4, err_msg=name)


def test_local_relations_see_half_the_samples_and_nothing_else_differs(runs: Path) -> None:
    """On the first step, before the weights part."""
    gathered, local = (losses(runs, "two", method)[0] for method in ("gathered", "local"))
    for name in gathered.keys() - {"loss"}:
        if name.endswith(".sample"):
            assert gathered[name] > 1e-4
            assert abs(local[name] / gathered[name] - 1) > 1e-3
        else:
            assert local[name] == pytest.approx(gathered[name], rel=1e-5)
    alone = [losses(runs, "one", method) for method in ("gathered", "local")]
    assert alone[0] == alone[1]
