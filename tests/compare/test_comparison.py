"""A comparison through the command: what it leaves, what it repeats, how processes share it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.cli.group import main
from mldr_deploy.compare import recent_data
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.pipeline.terminal_text import terminal_text

ROOT = Path(__file__).resolve().parents[2]


TUNED = """
[tuning]
choices = { kd = [{}, { method = { kd = { temperature = 4 } } }] }
"""


def give(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare", *arguments, "--quiet", "--device", "cpu"])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, matrix_text: str) -> Path:
    """A finished comparison: OUT, with its matrix beside it."""
    folder = tmp_path_factory.mktemp("comparison")
    (folder / "matrix.toml").write_text(matrix_text + TUNED)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in SETTINGS: another number sums in another order
    try:
        result = give(str(folder / "matrix.toml"), "--out", str(folder / "out"))
    finally:
        torch.set_num_threads(before)
    assert result.exit_code == 0, result.output
    (folder / "printed.md").write_text(result.output)
    return folder


def test_the_figures_are_those_of_the_runs(done: Path) -> None:
    """Accuracy recomputed from the kept predictions and the data set's own labels."""
    out = done / "out"
    labels = load_dataset(DataConfig()).test.labels
    (pair,) = json.loads((out / "results.json").read_text())["pairs"]
    for score in pair["scores"]:
        expected = []
        for seed in (0, 1):
            run = out / "runs" / "vit" / score["method"] / f"seed-{seed}"
            best = load_file(run / "test.safetensors")["best_classes"]
            expected.append(100 * np.mean(best[:, 0] == labels))
        assert score["top1"] == pytest.approx(expected, abs=1e-3)
        assert score["mean"] == pytest.approx(mean(expected), abs=1e-3)
        assert score["standard_deviation"] == pytest.approx(stdev(expected), abs=1e-3)
    assert {score["method"] for score in pair["scores"]} == {"scratch", "kd", "mldr-kd"}


def test_the_table_says_the_same(done: Path) -> None:
    (pair,) = json.loads((done / "out" / "results.json").read_text())["pairs"]
    text = (done / "out" / "table.md").read_text()
    printed = (done / "printed.md").read_text()
    assert printed.strip() == terminal_text(text) and max(map(len, printed.splitlines())) <= 80
    (row,) = re.findall(r"^\| test_resnet -> test_vit \|.*$", text, re.MULTILINE)
    cells = [cell.strip().replace("**", "") for cell in row.strip("|").split("|")]
    assert cells[1] == f"{pair['teacher_top1']:.2f}"
    for cell, score in zip(cells[2:5], pair["scores"], strict=True):
        assert cell == f"{score['mean']:.2f} ± {score['standard_deviation']:.2f}"
    others = [s for s in pair["scores"] if s["method"] != "mldr-kd"]
    best = max(others, key=lambda score: score["mean"])
    gain = pair["scores"][2]["mean"] - best["mean"]
    assert cells[5].startswith(f"{gain:+.2f} ({best['method']})")


def test_tuning_takes_what_does_best_on_validation(done: Path) -> None:
    out = done / "out"
    tops = [
        json.loads((out / "tuning/vit/kd" / str(number) / "result.json").read_text())["val_top1"]
        for number in (0, 1)
    ]
    best = int(tops[1] > tops[0])
    trials = json.loads((out / "results.json").read_text())["tuning"]
    assert [(t["method"], t["val_top1"], t["taken"]) for t in trials] == [
        ("kd", tops[0], best == 0),
        ("kd", tops[1], best == 1),
    ]
    recipe = (out / "runs" / "vit" / "kd" / "seed-1" / "recipe.toml").read_text()
    assert f"temperature = {(1.0, 4.0)[best]}" in recipe.partition("[method.kd]")[2]
    cells = [f"default: {tops[0]:.2f}", f"temperature 4: {tops[1]:.2f}"]
    cells[best] = f"{cells[best].partition(': ')[0]}: **{tops[best]:.2f}**"
    assert f"| vit | kd | {cells[0]} | {cells[1]} |" in (out / "table.md").read_text()


def test_pictures_and_one_exported_student_are_there(done: Path) -> None:
    out = done / "out"
    for name in ("accuracy_by_method.png", "accuracy_by_cost.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    bundles = list(out.rglob("manifest.json"))
    assert [path.parent.parent for path in bundles] == [out / "runs/vit/mldr-kd/seed-0"]
    latency = json.loads((out / "runs/vit/mldr-kd/seed-0/latency.json").read_text())
    assert latency["passed"] and latency["milliseconds_batch_1"] > 0


def test_every_outcome_tells_the_pictures(done: Path) -> None:
    names = ("result.json", "latency.json")
    outcomes = [path for name in names for path in (done / "out").rglob(name)]
    told = {json.loads(path.read_text())["data_fingerprint"] for path in outcomes}
    assert len(outcomes) == 10 and told == {load_dataset(DataConfig()).fingerprint}


def test_a_teacher_is_trained_once_and_asked_once_a_seed(done: Path) -> None:
    trained = [path.parent for path in (done / "out").rglob("weights.safetensors")]
    assert sum("teacher/trained" in str(path) for path in trained) == 1
    assert len(list((done / "out" / "teachers" / "resnet" / "logits").iterdir())) == 3


def test_runs_that_follow_each_other_read_the_data_once(
    matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counting(*given: Any, **more: Any) -> Dataset:
        read.append(given)
        return load_dataset(*given, **more)

    monkeypatch.setattr(recent_data, "load_dataset", counting)
    one_seed = matrix.read_text().replace("seeds = [0, 1]", "seeds = [0]\nexport = false")
    matrix.write_text(one_seed.replace('"kd", "mldr-kd"]', '"kd"]\nfocus = "kd"'))
    assert give(str(matrix), "--out", str(tmp_path / "out")).exit_code == 0
    assert finished(tmp_path / "out") == 3 and len(read) == 1


def test_giving_the_command_again_trains_nothing(done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done / "out").rglob("*.safetensors")}
    result = give(str(done / "matrix.toml"), "--out", str(done / "out"))
    assert result.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_report_on_a_folder_that_is_not_there_is_refused(matrix: Path, tmp_path: Path) -> None:
    out = tmp_path / "nowhere"
    result = give(str(matrix), "--out", str(out), "--report-only")
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert f"Error: {out} does not exist, so nothing of {matrix} is finished" in result.stderr
    assert not out.exists()


def test_another_matrix_is_refused_in_the_same_folder(done: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.toml"
    text = (done / "matrix.toml").read_text()
    changed.write_text(text.replace("[recipe.train]\nepochs = 1", "[recipe.train]\nepochs = 2"))
    result = give(str(changed), "--out", str(done / "out"))
    assert result.exit_code == 1
    assert re.search(
        r"holds a run with train.epochs = 1, not 2: choose another --out, or delete that folder",
        result.output,
    )


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_another_outcome_of_the_tuning_is_no_longer_that_of_finished_runs(
    done: Path, tmp_path: Path, jobs: str
) -> None:
    """A third choice that wins: students of the first two are not told to be its."""
    out, text = tmp_path / "out", (done / "matrix.toml").read_text()
    shutil.copytree(done / "out", out)
    for result in (out / "tuning" / "vit" / "kd").glob("*/result.json"):
        write_sealed(result, json.loads(result.read_text()) | {"val_top1": 0.0})
    third = "{ method = { kd = { kd_weight = 3 } } }"
    (tmp_path / "matrix.toml").write_text(text.replace("4 } } }]", f"4 }} }} }}, {third}]"))
    refused = give(str(tmp_path / "matrix.toml"), "--out", str(out), "--jobs", jobs)
    assert refused.exit_code == 1
    folder = re.escape(str(out / "runs" / "vit" / "kd"))
    assert re.search(rf"Error: {folder}/seed-\d holds a run with method\.kd\.", refused.output)
    assert "delete that folder" in refused.output
    shutil.rmtree(out / "runs" / "vit" / "kd")
    assert give(str(tmp_path / "matrix.toml"), "--out", str(out), "--jobs", jobs).exit_code == 0
    assert "kd_weight = 3.0" in (out / "runs" / "vit" / "kd" / "seed-1" / "recipe.toml").read_text()


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_the_others_are_done(matrix: Path, tmp_path: Path) -> None:
    text = matrix.read_text().replace('"kd", "mldr-kd"]', '"wild", "mldr-kd"]')
    text = text.replace("seeds = [0, 1]", "seeds = [0]\nexport = false")
    wild = '[variants.wild]\nmethod = { name = "kd" }\noptimizer = { lr = 1e30 }\n'
    matrix.write_text(text + wild + "train = { clip_norm = 0, log_steps = 1 }\n")
    result = give(str(matrix), "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "Error: vit, wild, seed 0 failed: " in result.output
    assert "not finite" in result.output and "the same command tries again" in result.output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [score["method"] for score in results["pairs"][0]["scores"]] == ["scratch", "mldr-kd"]
    assert list(results["failed"]) == results["missing"] == ["vit, wild, seed 0"]
    assert "Not finished: vit, wild, seed 0" in result.output


# --- several processes

COMMAND = [sys.executable, "-m", "mldr_deploy", "compare"]
SETTINGS = {"PYTHONPATH": str(ROOT / ".src"), "OMP_NUM_THREADS": "1"}


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | SETTINGS,
        # A shell's background jobs, such as a test run may be, ignore Ctrl-C and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finished(out: Path) -> int:
    """How many runs have their result. Walking bears folders that go meanwhile; rglob does not."""
    return sum("result.json" in files for _, _, files in os.walk(out))


def workers(out: Path) -> list[psutil.Process]:
    """The living processes that work on this comparison."""
    living = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(out) in process.cmdline():
                living.append(process)
    return living


@pytest.mark.slow
def test_two_workers_share_the_runs_and_find_what_one_finds(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(str(done / "matrix.toml"), "--out", str(out), "--jobs", "2")
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    logs = [path.read_text() for path in sorted((out / "logs").iterdir())]
    assert len(logs) == 2 and all("training: " in log for log in logs)
    one = json.loads((done / "out" / "results.json").read_text())["pairs"][0]["scores"]
    two = json.loads((out / "results.json").read_text())["pairs"][0]["scores"]
    assert [s["top1"] for s in one] == [s["top1"] for s in two]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_figures(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for wanted in (2, 4):
        process = start(str(done / "matrix.toml"), "--out", str(out))
        while finished(out) < wanted and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert wanted <= finished(out) < 9
    process = start(str(done / "matrix.toml"), "--out", str(out))
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    one = json.loads((done / "out" / "results.json").read_text())["pairs"][0]["scores"]
    two = json.loads((out / "results.json").read_text())["pairs"][0]["scores"]
    assert [s["top1"] for s in one] == [s["top1"] for s in two]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent_and_lose_nothing(
    done: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = start(str(done / "matrix.toml"), "--out", str(out), "--jobs", "2")
    while finished(out) < 1 and process.poll() is None:
        time.sleep(0.1)
    assert len(workers(out)) == 3  # the parent and its two
    process.send_signal(sent)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == (-9 if sent == signal.SIGKILL else 130), told
    _, living = psutil.wait_procs(workers(out), timeout=120)  # each ends after its step
    assert not living and finished(out) < 9
    process = start(str(done / "matrix.toml"), "--out", str(out), "--jobs", "2")
    process.communicate(timeout=600)
    assert process.returncode == 0 and finished(out) == 9
