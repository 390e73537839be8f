"""Both steps of the run for a GPU, on a CPU, with what a bare machine has and pack carries."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bare import environment, tree
from PIL import Image
from results import read_archive
from scale import REHEARSAL
from schedule import step_of

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 4
pytestmark = pytest.mark.slow


def write_data(folder: Path) -> None:
    """Noise with a bar a class, in files named and laid out as CIFAR-100's."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train-0", 40), ("train-1", 40), ("test", 16)):
        files = []
        for number in range(count):
            pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            pixels[8 * (number % CLASSES) :][:8] += 180  # where the bar is; a teacher must learn
            Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
            files.append(file.getvalue())
        labels = pa.array([number % CLASSES for number in range(count)], pa.uint8())
        table = pa.table({"image": files, "fine_label": labels})
        pq.write_table(table, folder / f"cifar100-{name}.parquet")
    names = "".join(f"{number},class {number}\n" for number in range(CLASSES))
    (folder / "cifar100-classes.csv").write_text(f"fine_label,fine_name\n{names}")


class Bare:
    """A folder that holds the repository's files and what pack carried, and a bare Python."""

    def __init__(self, folder: Path) -> None:
        self.home, self.archive = folder / "repository", folder / "gpu.zip"
        self.python = environment(folder / "python")
        self.results = self.home / "build" / "gpu" / "rehearsal"
        tree(ROOT, self.home)
        write_data(folder / "data")
        self.pack(folder / "data")
        shutil.rmtree(folder / "data")
        (folder / "home").mkdir()
        self.variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "PYTHONPATH": "kept",
            "MPLBACKEND": "Agg",
        }

    def pack(self, data: Path) -> None:
        """As one does where there is a package index; skips where there is none."""
        command = [sys.executable, str(self.home / "benchmarks" / "gpu" / "pack")]
        command += ["--python", platform.python_version(), "--machine", platform.machine()]
        done = subprocess.run(
            [*command, "--data", str(data)], capture_output=True, text=True, check=False
        )
        if done.returncode == 2:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr

    def start(self, step: int) -> subprocess.Popen[str]:
        """The command as pack tells it."""
        command = [str(self.python), "benchmarks/gpu/run.py", str(step), "--rehearse"]
        return subprocess.Popen(
            [*command, "--archive", str(self.archive)],
            cwd=self.home,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def state(self, part: str) -> Any:
        """state.json of a part; empty before it is there."""
        path = self.results / "parts" / part / "state.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def kill_when(self, process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
        """SIGKILL once the run has come so far."""
        while not ready() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        assert ready(), output


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """Made once for both steps, which follow each other."""
    return Bare(tmp_path_factory.mktemp("bare"))


def require_carried_out(bare: Bare, step: int) -> None:
    """Every part ended, and none by a fault; a slow machine may leave some for want of time."""
    from results import Results

    plan = step_of(step, REHEARSAL, Results(bare.results, bare.archive))
    parts = read_archive(bare.archive)["parts"]
    for part in (part for group in plan.groups for part in group):
        found = parts[part.name]
        assert found["state"]["state"] in ("done", "timed out", "skipped"), (part.name, found)
        assert not [row for row in found["rows"].values() if "failed" in row]


def test_the_environment_is_bare(bare: Bare) -> None:
    """Else the rehearsal shows nothing."""
    code = "import importlib.util as u, torch, timm; print([n for n in {} if u.find_spec(n)])"
    names = ["pydantic", "pydantic_core", "tomli_w", "gradio", "fastapi", "mldr_deploy", "mypy"]
    command = [str(bare.python), "-E", "-c", code.format(names)]  # -E: without our PYTHONPATH
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_step_1_goes_on_after_a_kill(bare: Bare) -> None:
    bare.kill_when(bare.start(1), lambda: bare.state("tests-kernels") != {})
    before = bare.state("machine")
    assert read_archive(bare.archive)["parts"]["machine"]["state"] == before
    output, _ = bare.start(1).communicate()
    assert json.loads(output.splitlines()[-1])["parts"].keys() >= {"dfra", "processes-mps"}, output
    if before["state"] == "done":  # else it was too slow, and was tried again
        assert bare.state("machine") == before
    require_carried_out(bare, 1)


def test_step_2_goes_on_after_a_kill_and_fills_the_page(bare: Bare) -> None:
    teacher = bare.results / "comparison" / "teachers" / "resnet" / "result.json"
    bare.kill_when(bare.start(2), teacher.is_file)
    assert read_archive(bare.archive)["parts"]["machine-2"]["state"] == bare.state("machine-2")
    trained = teacher.stat().st_mtime_ns
    output, _ = bare.start(2).communicate()
    assert json.loads(output.splitlines()[-1])["step"] == 2, output
    assert teacher.stat().st_mtime_ns == trained
    require_carried_out(bare, 2)
    table = read_archive(bare.archive)["comparison"]
    assert table["missing"] == [] and table["failed"] == {}
    page = bare.home.parent / "gpu.md"
    script = [sys.executable, str(ROOT / "scripts" / "gpu_page.py"), str(bare.archive)]
    subprocess.run([*script, "--page", str(page)], check=True)
    text = page.read_text()
    assert "A rehearsal on a CPU: no figure here means anything" in text
    score = table["pairs"][0]["scores"][0]["mean"]
    assert (
        f"| resnet10t -> deit_tiny_patch16_224 | {table['pairs'][0]['teacher_top1']:.2f} |" in text
    )
    assert f"{score:.2f}" in text
    assert "not measured" in text  # compiling takes longer on a CPU than a rehearsal gives
