"""A whole choice over the embedded digits, by the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.cli.group import main

RECIPE = """
name = "tiny choice"
[data]
batch_size = 256
[teacher]
name = "test_resnet"
train = { epochs = 5, precision = "fp32" }
optimizer = { name = "adamw", lr = 1e-2 }
[student]
name = "test_resnet"
[method]
name = "kd"
[train]
epochs = 6
precision = "fp32"
teacher_precision = "fp32"
teacher_views = 1
[optimizer]
name = "adamw"
lr = 1e-2
[augment]
crop = "none"
flip = 0
"""


def words(folder: Path, *more: str) -> list[str]:
    """Arguments of the command; the recipe lies in ``folder``."""
    file = folder / "tiny.toml"
    file.write_text(RECIPE)
    students = "test_resnet,test_efficientnet,test_mambaout"
    return [
        *("choose", "-q", "--recipe", str(file), "--students", students),
        *("--precisions", "fp32", "--max-ms", "1000", "--device", "cpu", *more),
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "data.val_fraction=0"], "data.val_fraction must be more than 0"),
        (["--set", "teacher=none", "--set", "method.name=scratch"], "has no [teacher] table"),
        (["--precisions", "fp16"], "chosen among fp32, int8, not fp16"),
        (["--hours", "inf"], "hours = inf is not allowed"),
        (["--image-sizes", "4"], "image_sizes.0 = 4 is not allowed"),
        (["--set", "student.width=3"], "unknown key student.width"),
    ],
)
def test_bad_input_is_one_line(more: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, words(tmp_path, "--out", str(tmp_path / "out"), *more))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and message in line


def start(folder: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """The command as a process; measurements are kept in ``folder``."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "mldr_deploy", *words(folder, "--out", str(out), *more)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def facts(out: Path) -> dict[str, Any]:
    """What a choice left, without what is measured anew each time."""
    choice = json.loads((out / "choice.json").read_text(encoding="utf-8"))
    choice.pop("warnings")
    for files in choice["proofs"].values():
        for file in files.values():
            file.pop("latency")
    return {**choice, "weights": sha256(out / "bundle" / "weights.safetensors")}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_and_resumed_to_the_same_bits(engine: str, tmp_path: Path) -> None:
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip('Ray is not here: pip install "mldr-deploy[ray]"')
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(tmp_path, whole).wait() == 0
    killed.mkdir()
    shutil.copy(whole / "plan.json", killed)  # where it is noisy, times would be measured anew
    process = start(tmp_path, killed, "--engine", engine)
    runs = killed / "rounds" / "2"  # in the middle of the second round
    while not (runs.is_dir() and any(runs.glob("*/student/metrics.jsonl"))):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "choice.json").exists()
    assert start(tmp_path, killed, "--engine", engine).wait() == 0
    assert facts(killed) == facts(whole)
    choice = facts(whole)
    assert [len(standing) for standing in choice["scores"]] == [3, 2]
    winner = max(choice["scores"][1], key=lambda score: score["top1"])
    assert choice["winner"] == winner["name"]
    bundle = open_bundle(whole / "bundle")
    assert f"{bundle.manifest.model['name']} {bundle.manifest.image_size} px" == winner["name"]
    for log in whole.glob("logs/*.log"):  # nobody waited for another's logits
        assert "teacher's logits: " not in log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_impossible_budgets_say_what_there_is(tmp_path: Path) -> None:
    arguments = words(tmp_path, "--out", str(tmp_path / "out"))
    environment = {"XDG_CACHE_HOME": str(tmp_path)}

    def line(*more: str) -> str:
        result = CliRunner().invoke(main, [*arguments, *more], env=environment)
        assert result.exit_code == 1
        (text,) = result.stderr.splitlines()
        return str(text)

    assert "of 3 students none is within 0.0001 ms" in (text := line("--max-ms", "0.0001"))
    assert "the fastest is test_" in text
    assert "the smallest file has" in line("--max-mb", "0.001")
    assert "--hours 0." in line("--hours", "0.0001")
    assert not (tmp_path / "out" / "plan.json").exists()


@pytest.mark.slow
def test_a_phones_file_is_chosen_by_what_runs_it(tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    out = tmp_path / "out"
    arguments = words(tmp_path, "--out", str(out), "--target", "executorch")
    arguments[arguments.index("--precisions") + 1] = "int8-dynamic"
    result = CliRunner().invoke(main, arguments, env={"XDG_CACHE_HOME": str(tmp_path)})
    assert result.exit_code == 0, result.output
    choice = facts(out)
    assert choice["precision"] == "int8-dynamic"
    files = {files["int8-dynamic"]["file"] for files in choice["proofs"].values()}
    assert files == {"student.int8-dynamic.pte"} and (out / "bundle" / files.pop()).is_file()
    told = json.loads((out / "choice.json").read_text(encoding="utf-8"))["warnings"]
    assert "x86 proves the file, not the phone's kernels" in " ".join(told)
