"""A bundle of a tiny untrained student, made once a session: real ONNX, real weights, digits."""

from __future__ import annotations

import http.client
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mldr_deploy.bundle.atomic import write_json, write_text
from mldr_deploy.bundle.golden import make_golden, save_golden
from mldr_deploy.bundle.infer_script import FILE as SCRIPT
from mldr_deploy.bundle.infer_script import infer_script
from mldr_deploy.bundle.manifest import FILE, Artifact, Manifest, TensorSpec, describe
from mldr_deploy.bundle.parity import Accuracy, Gate, ParityResult
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.tensors import write_tensors
from mldr_deploy.export.config import ExportConfig
from mldr_deploy.export.onnx_export import export_onnx
from mldr_deploy.models.config import ModelConfig
from mldr_deploy.models.registry import create_model

SPEC = Preprocessing(
    size=(32, 32), crop_fraction=0.875, mean=(0.5, 0.45, 0.4), std=(0.25, 0.25, 0.3)
)
LABELS = [f"class {k}" for k in range(10)]
MAX_BATCH = 16


def parity(failures: list[str]) -> ParityResult:
    return ParityResult(
        precision="fp32",
        samples=100,
        reference=Accuracy(top1=90, top5=99),
        artifact=Accuracy(top1=90, top5=99),
        lost=0,
        gained=0,
        mcnemar_p=1,
        disagreements=0,
        ties=0,
        max_dlogit=1e-5,
        p99_dlogit=1e-6,
        mean_kl=0,
        nonfinite=0,
        reference_nonfinite=0,
        worst_index=0,
        batches=[],
        gate=Gate(min_agreement=100, max_dlogit=1e-3),
        failures=failures,
    )


def write_bundle(folder: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(name="test_resnet")
    model = create_model(config, num_classes=len(LABELS), image_size=32).eval()
    with torch.no_grad():
        # A new classifier starts small: an untrained model would give one answer for all.
        torch.nn.init.normal_(model.get_classifier().weight, std=0.5)
    export_onnx(model, 32, folder / "student.onnx", ExportConfig(max_batch=MAX_BATCH))
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    write_tensors(folder / "weights.safetensors", tensors)
    rng = np.random.default_rng(0)
    sources = []
    for k in range(8):
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        sources.append(coarse.repeat(10 + k, 0).repeat(10, 1))
    index = np.arange(len(sources))
    with torch.inference_mode():
        golden = make_golden(
            sources,
            SPEC,
            lambda inputs: model(torch.from_numpy(inputs)).numpy(),
            index=index,
            label=index % len(LABELS),
            classes=LABELS,
        )
    save_golden(folder / "golden.npz", golden)
    manifest = Manifest(
        labels=LABELS,
        input=TensorSpec(name="input", dtype="float32", shape=["batch", 3, 32, 32]),
        output=TensorSpec(name="logits", dtype="float32", shape=["batch", len(LABELS)]),
        max_batch=MAX_BATCH,
        preprocessing=SPEC,
        artifacts=[
            Artifact(
                **describe(folder, "student.onnx").model_dump(),
                format="onnx",
                precision="fp32",
                opset=20,
                status="passed",
                parity=parity([]),
            )
        ],
        temperature=1.5,
        weights=describe(folder, "weights.safetensors"),
        golden=describe(folder, "golden.npz"),
        model=config.model_dump(mode="json"),
        image_size=32,
        family="cnn",
        parameters=sum(p.numel() for p in model.parameters()),
        data={"source": "digits"},
        data_fingerprint="f" * 64,
    )
    write_text(folder / SCRIPT, infer_script(manifest))
    manifest = manifest.model_copy(update={"script": describe(folder, SCRIPT)})
    write_json(folder / FILE, manifest.model_dump(mode="json"))


Edit = Callable[[Path, Callable[[dict[str, Any]], None]], Path]


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = json.loads((folder / FILE).read_text())
    change(content)
    write_json(folder / FILE, content)
    return folder


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


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The healthy bundle's folder; not to be written to."""
    folder = tmp_path_factory.mktemp("served")
    write_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(served: Path) -> Bundle:
    return open_bundle(served)


@pytest.fixture
def copied(served: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be broken."""
    return Path(shutil.copytree(served, tmp_path / "copied"))


@pytest.fixture
def edit() -> Edit:
    """``edit(folder, change)``: the folder with its manifest as another export would write it."""
    return edited


@pytest.fixture
def failed(copied: Path) -> Path:
    """A bundle whose only artifact failed its gate."""

    def fail(content: dict[str, Any]) -> None:
        content["artifacts"][0]["status"] = "failed"
        content["artifacts"][0]["parity"]["failures"] = ["|dlogit| 0.25 is above 0.001"]

    return edited(copied, fail)


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
    process = subprocess.Popen(
        [*words, "serve", str(bundle), "--port", "0", "--threads", "1", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT / ".src"), "PATH": os.defpath},
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
