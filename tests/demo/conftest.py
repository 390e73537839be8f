"""A bundle of the ten digits with a hand-written network in three forms: no export, no training."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mldr_deploy.bundle.golden import make_golden, save_golden
from mldr_deploy.bundle.manifest import (
    FILE,
    Artifact,
    Manifest,
    TensorSpec,
    describe,
    write_manifest,
)
from mldr_deploy.bundle.parity import Accuracy, Gate, ParityResult
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.tensors import write_tensors
from mldr_deploy.demo.loaded_student import LoadedStudent
from mldr_deploy.runtimes.runtime import RuntimeOptions

ROOT = Path(__file__).resolve().parents[2]
LABELS = [*"0123456789"]
SPEC = Preprocessing(size=(32, 32), mean=(0.3, 0.3, 0.3), std=(0.35, 0.35, 0.35))
FAILURE = "top-1 drop 4.20 points is above 1 (McNemar p 0.001)"


def network(weight: np.ndarray, path: Path) -> None:
    """Logits [B, 10]: an 8 x 8 average, flattened, times ``weight`` [192, 10]."""
    graph = helper.make_graph(
        [
            helper.make_node(
                "AveragePool", ["input"], ["small"], kernel_shape=[4, 4], strides=[4, 4]
            ),
            helper.make_node("Flatten", ["small"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def parity(precision: str, gate: Gate, failures: list[str], drop: float, largest: float) -> Any:
    return ParityResult(
        precision=precision,
        samples=200,
        reference=Accuracy(top1=90, top5=99),
        artifact=Accuracy(top1=90 - drop, top5=98),
        lost=5,
        gained=1,
        mcnemar_p=0.001 if failures else 0.2,
        disagreements=6 if drop else 0,
        ties=0,
        max_dlogit=largest,
        p99_dlogit=largest / 2,
        mean_kl=0.001,
        nonfinite=0,
        reference_nonfinite=0,
        worst_index=7,
        batches=[],
        gate=gate,
        failures=failures,
    )


def write_bundle(folder: Path) -> Path:
    folder.mkdir()
    # Each class's weight is the mean of its scans, so that real digits are answered rightly.
    from sklearn.datasets import load_digits

    scans = load_digits()
    sources = [_picture(scan) for scan in scans.images]
    flat = np.stack([_small(source) for source in sources])
    centres = np.stack([flat[scans.target == k].mean(0) for k in range(10)])
    unit = centres - centres.mean(0)
    weight = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).T * 1.2
    network(weight, folder / "student.onnx")
    network(weight + 0.002 * np.sign(weight), folder / "student.int8.onnx")
    network(weight[:, ::-1], folder / "student.fp16.onnx")
    session = onnxruntime.InferenceSession(folder / "student.onnx")
    chosen = np.array([int(np.flatnonzero(scans.target == k)[3]) for k in range(10)])
    golden = make_golden(
        [sources[k] for k in chosen],
        SPEC,
        lambda inputs: session.run(None, {"input": inputs})[0],
        index=chosen,
        label=scans.target[chosen].astype(np.int64),
        classes=LABELS,
    )
    save_golden(folder / "golden.npz", golden)
    write_tensors(folder / "weights.safetensors", {"weight": weight.astype(np.float32)})
    exact = parity("fp32", Gate(min_agreement=100, max_dlogit=1e-3), [], 0, 1e-6)
    close = parity("int8", Gate(max_drop=1), [], 0.5, 1.0)
    wrong = parity("fp16", Gate(max_drop=1), [FAILURE], 4.2, 30.0)
    artifacts = [
        Artifact(
            **describe(folder, file).model_dump(),
            format="onnx",
            precision=result.precision,
            opset=20,
            status="passed" if result else "failed",
            parity=result,
        )
        for file, result in (
            ("student.onnx", exact),
            ("student.int8.onnx", close),
            ("student.fp16.onnx", wrong),
        )
    ]
    manifest = Manifest(
        labels=LABELS,
        input=TensorSpec(name="input", dtype="float32", shape=["batch", 3, 32, 32]),
        output=TensorSpec(name="logits", dtype="float32", shape=["batch", 10]),
        max_batch=16,
        preprocessing=SPEC,
        artifacts=artifacts,
        weights=describe(folder, "weights.safetensors"),
        golden=describe(folder, "golden.npz"),
        model={"name": "centres <b>bold</b>"},
        image_size=32,
        family="cnn",
        parameters=1920,
        data={"source": "digits"},
        data_fingerprint="f" * 64,
        provenance={"training": {"recipe": {"method": {"name": "mldr-kd"}}}},
    )
    write_manifest(folder, manifest)
    return folder


def _picture(scan: np.ndarray) -> np.ndarray:
    grey = np.rint(scan * (255 / 16)).astype(np.uint8)
    image = Image.fromarray(grey).resize((32, 32), Image.Resampling.BICUBIC)
    return np.asarray(image.convert("RGB"))


def _small(picture: np.ndarray) -> np.ndarray:
    scaled = (picture / 255 - 0.3) / 0.35
    return scaled.reshape(8, 4, 8, 4, 3).mean((1, 3)).transpose(2, 0, 1).ravel()


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle's folder: fp32 and int8 passed, fp16 failed; not to be written to."""
    return write_bundle(tmp_path_factory.mktemp("demo") / "bundle")


@pytest.fixture(scope="session")
def bundle(shown: Path) -> Bundle:
    return open_bundle(shown)


@pytest.fixture(scope="session")
def student(bundle: Bundle) -> Iterator[LoadedStudent]:
    with LoadedStudent(bundle, "onnxruntime-cpu", RuntimeOptions(threads=1)) as loaded:
        yield loaded


@pytest.fixture
def copied(shown: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be broken."""
    return Path(shutil.copytree(shown, tmp_path / "copied"))


@pytest.fixture
def all_failed(copied: Path) -> Path:
    """The bundle, none of whose artifacts passed."""
    content = json.loads((copied / FILE).read_text())
    for artifact in content["artifacts"]:
        artifact["status"], artifact["parity"]["failures"] = "failed", [FAILURE]
    write_sealed(copied / FILE, content)
    return copied


def encoded(pixels: Any, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture
def packed(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """``packed({name: bytes})``: a zip archive of them."""

    def pack(files: dict[str, bytes]) -> Path:
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path

    return pack


@dataclass
class Live:
    """A demo in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def maps(self) -> str:
        """Files that the process has mapped."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()

    def stop(self) -> tuple[int, str]:
        """(exit code, what it said) after SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


def launched(bundle: Path, *options: str) -> Live:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mldr_deploy", "demo", str(bundle), "--port", "0"),
            *("--threads", "1", "--runtime", "onnxruntime-cpu", *options),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT / ".src"), "PATH": os.defpath, "HOME": str(bundle.parent)},
        cwd=bundle.parent,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return Live(process, found.group())
    raise AssertionError(f"the demo did not start: {''.join(said)}")


@pytest.fixture(scope="session")
def live(shown: Path) -> Iterator[Live]:
    """One demo for all tests that leave it as they found it."""
    server = launched(shown)
    yield server
    code, said = server.stop()
    assert code == 0 and "Traceback" not in said, said
