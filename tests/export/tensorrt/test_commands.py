"""What a person gets: build-engine, doctor, and serving an engine, on the doubles."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.cli.group import main
from mldr_deploy.errors import Unavailable
from mldr_deploy.pipeline.engines import ready_to_serve
from mldr_deploy.runtimes.runtime import RunError
from mldr_deploy.runtimes.runtime_choice import open_runtime


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def path(exported: Bundle, tmp_path: Path) -> Path:
    """A bundle without engines, as it comes from a machine without TensorRT."""
    return Path(shutil.copytree(exported.path, tmp_path / "bundle"))


def test_build_engine_adds_and_proves_one(trt: Any, path: Path) -> None:
    result = run("build-engine", path, "--quiet")
    assert result.exit_code == 0, result.output
    first, *more = result.stdout.splitlines()
    assert first.startswith("engines/double-gpu-10.16.1.11.fp32.plan: fp32 proven (layers that")
    assert "parity fp32: passed on 359 images" in more
    assert open_bundle(path).artifact("fp32", "tensorrt").parity.samples == 359


def test_build_engine_on_golden_images(trt: Any, path: Path) -> None:
    result = run("build-engine", path, "--golden-only", "--precision", "fp32", "--opt-batch", 8)
    assert result.exit_code == 0, result.output
    assert "parity fp32: passed on 16 images" in result.stdout
    assert "lint student.onnx by TensorRT 10.16.1.11's parser: " in result.stderr
    assert "fp32 proven" in result.stderr
    record = open_bundle(path).artifact("fp32", "tensorrt").engine
    assert record is not None and record.profile.opt == 8


def test_a_failed_engine_is_exit_code_1(trt: Any, path: Path) -> None:
    import double

    trt.layers = lambda proto, typed: [
        {"Name": "n", "LayerType": "gemm", "Inputs": [{"DataType": "Half"}]}
    ]
    assert isinstance(trt, double.FakeTensorRT)
    result = run("build-engine", path, "--golden-only", "--quiet")
    assert result.exit_code == 1
    assert "failed: fp32 NOT proven: 1 of 1 layers that multiply are narrower" in result.stdout


def test_without_tensorrt_one_sentence_and_2(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    before = (path / "manifest.json").read_bytes()
    result = run("build-engine", path, "--golden-only", "--quiet")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr == (
        'Error: TensorRT is not installed: pip install "mldr-deploy[tensorrt]"\n'
    )
    assert (path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--hardware", "all"), "engine: hardware = 'all' is not allowed"),
        (("--effort", 9), "engine: effort = 9 is not allowed"),
        (("--golden-only", "--precision", "fp4"), "holds no onnx fp4 artifact"),
    ],
)
def test_wrong_wishes_are_one_line(
    trt: Any, path: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = run("build-engine", path, "--quiet", *arguments)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_doctor_tells_what_is_missing(trt: Any, cuda: Any) -> None:
    told = json.loads(run("doctor", "--json").stdout)["result"]
    assert told["tensorrt"] == "ready: Double GPU (compute capability 8.9), TensorRT 10.16.1.11"
    cuda.gpu = None
    told = json.loads(run("doctor", "--json").stdout)["result"]
    assert told["tensorrt"].startswith("TensorRT needs an NVIDIA GPU with its driver")


def test_doctor_without_tensorrt_shows_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    said = " ".join(run("doctor").stdout.split())
    assert 'tensorrt TensorRT is not installed: pip install "mldr-deploy[tensorrt]"' in said


def test_serving_builds_what_does_not_fit(trt: Any, cuda: Any, path: Path) -> None:
    ready_to_serve(path, "auto", None, progress=Silent())
    assert len(open_bundle(path).manifest.artifacts) == 1  # only when TensorRT is asked for
    for gpu in ("Double GPU", "Another GPU", "Double GPU"):
        cuda.gpu = gpu
        ready_to_serve(path, "tensorrt", None, progress=Silent())
        bundle = open_bundle(path)
        with open_runtime(bundle, "tensorrt") as runtime:
            inputs = runtime.preprocess(list(bundle.golden.pixels))
            runtime.feed(inputs)
            runtime.compute()
            np.testing.assert_allclose(runtime.fetch(), bundle.golden.logits, atol=1e-3)
            np.testing.assert_allclose(runtime(inputs), bundle.golden.logits, atol=1e-3)
            assert gpu.lower().replace(" ", "-") in runtime.file
            with pytest.raises(RunError, match=r"takes \[1 to 32, 3, 32, 32\]"):
                runtime.feed(inputs[:, :, :8])
    assert len(bundle.manifest.artifacts) == 3


def test_serving_on_a_third_machine_is_refused_with_the_command(
    trt: Any, cuda: Any, path: Path
) -> None:
    ready_to_serve(path, "tensorrt", None, progress=Silent())
    cuda.gpu = "Third GPU"
    with (
        pytest.raises(Unavailable, match="here is Third GPU: `mldr-deploy build-engine"),
        open_runtime(open_bundle(path), "tensorrt"),
    ):
        pass


def test_getting_ready_loads_no_torch() -> None:
    import subprocess

    root = Path(__file__).resolve().parents[3]
    code = "import sys, mldr_deploy.pipeline.engines; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(root / ".src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
