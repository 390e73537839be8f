"""A bundle of a tiny untrained student, made once a session: real ONNX, real weights, digits."""

from __future__ import annotations

import http.client
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from mldr_deploy.bundle.reader import Bundle


@pytest.fixture(scope="session")
def beside() -> Callable[[str], ModuleType]:
    """``beside(name)``: a module of this folder; tests are no package to import it from."""

    def load(name: str) -> ModuleType:
        path = Path(__file__).with_name(f"{name}.py")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load


ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Live:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str  # http://127.0.0.1:PORT

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def memory(self, kind: str = "VmRSS") -> int:
        """Resident bytes of the server; ``VmHWM``: the most there were."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(kind))
        return int(line.split()[1]) * 1024

    def stop(self, by: int = signal.SIGTERM, timeout: float = 60) -> tuple[int, str]:
        """(exit code, what it said) after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        _, said = self.process.communicate(timeout=timeout)
        return self.process.returncode, said


@dataclass(frozen=True)
class Answer:
    """What a server said to one request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The refusal's words."""
        return str(self.json["error"])


@pytest.fixture(scope="session")
def ask() -> Callable[..., Answer]:
    """``ask(live, method, path, body, headers)``: an Answer; redirections are not followed."""

    def send(
        live: Live, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    return send


Launch = Callable[..., Live]


def launched(bundle: Path, *options: str, python: str | None = None) -> Live:
    words = [sys.executable, *(["-c", python] if python else ["-m", "mldr_deploy"])]
    packages = [str(ROOT / ".src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [*words, "serve", str(bundle), "--port", "0", "--threads", "1", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(packages), "PATH": os.defpath},
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return Live(process, found.group())
    raise AssertionError(f"the server did not start: {''.join(said)}")


@pytest.fixture(scope="module")
def limited(served: Path) -> Iterator[Live]:
    """A server for a module's tests that takes no more than 1 MiB."""
    server = launched(served, "--runtime", "onnxruntime-cpu", "--max-upload-mib", "1")
    yield server
    code, said = server.stop()
    assert code == 0 and "Traceback" not in said, said


@pytest.fixture
def launch() -> Iterator[Launch]:
    """``launch(bundle, *options)``: a server of the test's own; stopped at its end."""
    started: list[Live] = []

    def start(bundle: Path, *options: str, python: str | None = None) -> Live:
        started.append(launched(bundle, *options, python=python))
        return started[-1]

    yield start
    for live in started:
        if live.process.poll() is None:
            live.process.kill()
        live.process.communicate()


@pytest.fixture(scope="session")
def live(served: Path) -> Iterator[Live]:
    """One server for all tests that leave it as they found it."""
    server = launched(served, "--runtime", "onnxruntime-cpu")
    yield server
    code, said = server.stop()
    assert code == 0 and "Traceback" not in said, said


@pytest.fixture(scope="session")
def on_ray(served: Path) -> Iterator[Live]:
    """Two replicas on Ray Serve, which hold and queue little."""
    pytest.importorskip("ray", reason='Ray is not here: pip install "mldr-deploy[ray]"')
    few = ("--max-ongoing", "8", "--max-queued-requests", "8", "--cors", "https://a.example")
    server = launched(
        served, "--runtime", "onnxruntime-cpu", "--engine", "ray", "--replicas", "2", *few
    )
    yield server
    code, said = server.stop(timeout=180)
    assert code == 0 and "Traceback" not in said, said


def encoded(pixels: Any, form: str = "PNG", **options: Any) -> bytes:
    """An image file of an array or Pillow image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture(scope="session")
def good(bundle: Bundle) -> bytes:
    """A golden image as a file."""
    return encoded(bundle.golden.sources[0])
