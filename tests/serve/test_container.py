"""The Dockerfile's own steps, followed in a clean virtual environment in place of an image."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


CLEAN = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def steps(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE, flags=re.MULTILINE)


def test_the_image_is_slim_and_not_root() -> None:
    assert {line.split()[0] for line in steps("FROM")} == {"python:3.12-slim"}
    assert steps("USER") == ["mldr"]
    assert "torch" not in " ".join(steps("RUN"))
    assert DOCKERFILE.index("USER mldr") > DOCKERFILE.rindex("RUN ")


def test_the_page_has_the_commands_of_the_file() -> None:
    commands = re.findall(r"^# +(docker .*)$", DOCKERFILE, flags=re.MULTILINE)
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8").splitlines()
    assert len(commands) == 2 and {f"    {command}" for command in commands} <= {*page}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in which every RUN step with pip was carried out."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").replace("**/", "").split()
    shutil.copytree(ROOT, folder / "build", symlinks=True, ignore=shutil.ignore_patterns(*ignored))
    wheels = folder / "wheels"
    wheels.mkdir()
    (wheels / "constraints.txt").write_bytes((ROOT / "constraints.txt").read_bytes())
    for step in steps("RUN"):
        if not step.startswith("pip "):
            continue
        words = [
            w.replace("/wheels", str(wheels)).replace("/build", str(folder / "build"))
            for w in step.split()
        ]
        done = subprocess.run(
            [str(folder / "venv/bin/python"), "-m", *words],
            capture_output=True,
            text=True,
            env=CLEAN,
        )
        if "ConnectionError" in done.stderr or "No matching distribution" in done.stderr:
            pytest.skip(f"no package index at hand: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
    return folder / "venv"


@pytest.mark.slow
def test_its_steps_serve_a_bundle_without_torch(environment: Path, served: Path) -> None:
    python = environment / "bin" / "python"
    lacking = subprocess.run([str(python), "-c", "import torch"], env=CLEAN, capture_output=True)
    assert lacking.returncode == 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    entry = [w.replace("/bundle", str(served)) for w in json.loads(steps("ENTRYPOINT")[0])]
    command = [str(environment / "bin" / entry[0]), *entry[1:], "--port", str(port)]
    with subprocess.Popen(command, env=CLEAN, stderr=subprocess.PIPE, text=True) as server:
        try:
            _require_healthy(python, port, server)
            url = f"http://127.0.0.1:{port}/v2"
            with urllib.request.urlopen(url, timeout=10) as reply:
                assert json.load(reply)["name"] == "mldr-deploy"
        finally:
            server.terminate()


def _require_healthy(python: Path, port: int, server: subprocess.Popen[str]) -> None:
    """The image's own health check, until it succeeds or the server ends."""
    check = steps("HEALTHCHECK")[0].partition("CMD ")[2]
    words = [word.replace(":8000", f":{port}") for word in json.loads(check)]
    for _ in range(600):
        if subprocess.run([str(python), *words[1:]], capture_output=True).returncode == 0:
            return
        assert server.poll() is None, server.stderr and server.stderr.read()
        time.sleep(0.2)
    pytest.fail(f"never healthy: {shlex.join(words)}")
