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
SAME = [
    "teacher/trained/weights.safetensors",
    "student/trained/weights.safetensors",
    "bundle/weights.safetensors",
    "bundle/student.onnx",
    "bundle/golden.npz",
]


def hashes(out: Path) -> dict[str, str]:
    return {file: sha256((out / file).read_bytes()).hexdigest() for file in SAME}


def refuse_each_once(monkeypatch: pytest.MonkeyPatch, out: Path) -> set[str]:
    """Let the disk be full the first time that a file is made durable; the files it was so for."""
    refused: set[str] = set()
    real = atomic._fsync

    def full(path: Path) -> None:
        file = STEP.sub("step", TEMPORARY.sub(r"\1", path.relative_to(out).as_posix()))
        if not path.is_dir() and file not in refused:
            refused.add(file)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    monkeypatch.setattr(atomic, "_fsync", full)
    return refused


def assert_one_line(result: Result, file: str) -> None:
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert isinstance(result.exception, SystemExit)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and file in last and "No space left on device" in last, last
    assert "Traceback" not in result.stderr


def test_every_file_fails_once_and_the_job_ends_the_same(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--set", "export.latency_seconds=0", "-q")
    assert command("distill-and-export", tmp_path / "smooth", *arguments).exit_code == 0
    out = tmp_path / "troubled"
    refused = refuse_each_once(monkeypatch, out)
    for _ in range(100):
        before = set(refused)
        result = command("distill-and-export", out, *arguments)
        if result.exit_code == 0:
            break
        (new,) = refused - before
        assert_one_line(result, Path(new).name)
    assert result.exit_code == 0
    assert {"recipe.toml", "student/checkpoints/step/state.json", "bundle/manifest.json"} <= refused
    assert len(refused) > 30
    assert hashes(out) == hashes(tmp_path / "smooth")
    assert not [
        name
        for _, folders, files in os.walk(out)
        for name in [*folders, *files]
        if name.endswith((".tmp", ".old", ".new"))
    ]


@pytest.mark.parametrize("part", ["_file", "_board"])
def test_a_log_that_cannot_grow_is_one_line(
    part: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = MetricsLog.write

    def write_to_a_full_disk(self: MetricsLog, *values: object) -> None:
        target = getattr(self, part)
        if target is None:
            pytest.skip("TensorBoard is not installed")
        stand_in = type("Full", (), {"write": full, "add_scalar": full, "close": target.close})()
        setattr(self, part, stand_in)
        write(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(MetricsLog, "write", write_to_a_full_disk)
    result = command("train-teacher", tmp_path / "out", "-q")
    assert_one_line(result, {"_file": "metrics.jsonl", "_board": "tensorboard"}[part])
