"""A full disk is one line wherever it is met; with more space the same command ends the same."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import Result

from mldr_deploy.bundle import atomic
from mldr_deploy.distill.training_log import MetricsLog

pytestmark = pytest.mark.slow

Command = Callable[..., Result]
# Temporary names (.NAME.HOST.PID.TOKEN.tmp) and numbers of steps do not make another file.
TEMPORARY = re.compile(r"\.([^/]+)\.[^/.]+\.\d+\.[0-9a-f]{8}\.tmp")
STEP = re.compile(r"step-\d+")
WEIGHTS = "trained/weights.safetensors"
TEACHER = [f"teacher/{WEIGHTS}"]
SAME = [
    *TEACHER,
    f"student/{WEIGHTS}",
    "bundle/weights.safetensors",
    "bundle/student.onnx",
    "bundle/golden.npz",
]
# An export begins anew each time: of a bundle's files the first, one in the middle and the last.
OF_A_BUNDLE = {"bundle/weights.safetensors", "bundle/quality.png", "bundle/manifest.json"}


def hashes(out: Path, files: list[str]) -> dict[str, str]:
    return {file: sha256((out / file).read_bytes()).hexdigest() for file in files}


def refuse_each_once(monkeypatch: pytest.MonkeyPatch, out: Path) -> set[str]:
    """Let the disk be full the first time that a file is made durable; the files it was so for."""
    refused: set[str] = set()
    real = atomic._fsync

    def full(path: Path) -> None:
        file = STEP.sub("step", TEMPORARY.sub(r"\1", path.relative_to(out).as_posix()))
        tried = not file.startswith("bundle/") or file in OF_A_BUNDLE
        if tried and not path.is_dir() and file not in refused:
            refused.add(file)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    monkeypatch.setattr(atomic, "_fsync", full)
    return refused


def assert_one_line(result: Result, path: str) -> None:
    """The line names the file; of a bundle's it may name the folder, which is written whole."""
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert isinstance(result.exception, SystemExit)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and "No space left on device" in last, last
    folder, _, file = path.rpartition("/")
    assert file in last or (folder == "bundle" and "bundle cannot be written" in last), last
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "last", "same"),
    [
        (
            "train-teacher",
            ["--set", "teacher.train.epochs=2"],
            f"teacher/{WEIGHTS}",
            TEACHER,
        ),
        (
            "distill-and-export",
            ["--set", "export.latency_seconds=0"],
            "bundle/manifest.json",
            SAME,
        ),
    ],
)
def test_every_file_fails_once_and_the_job_ends_the_same(
    name: str,
    arguments: list[str],
    last: str,
    same: list[str],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert command(name, tmp_path / "smooth", *arguments, "-q").exit_code == 0
    out = tmp_path / "troubled"
    refused = refuse_each_once(monkeypatch, out)
    for _ in range(60):
        before = set(refused)
        result = command(name, out, *arguments, "-q")
        if result.exit_code == 0:
            break
        (new,) = refused - before
        assert_one_line(result, new)
    assert result.exit_code == 0
    assert {"recipe.toml", "teacher/checkpoints/step/state.json", last} <= refused
    assert hashes(out, same) == hashes(tmp_path / "smooth", same)
    left = [name for _, folders, files in os.walk(out) for name in [*folders, *files]]
    assert not [name for name in left if name.endswith((".tmp", ".old", ".new"))]


def test_a_log_that_cannot_grow_is_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = MetricsLog.write

    def write_to_a_full_disk(self: MetricsLog, *values: object) -> None:
        self._file = type("Full", (), {"write": full, "close": self._file.close})()
        write(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(MetricsLog, "write", write_to_a_full_disk)
    assert_one_line(command("train-teacher", tmp_path / "out", "-q"), "metrics.jsonl")
