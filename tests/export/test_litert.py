"""LiteRT files, run by the real library; the slow tests write them by the real converter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.litert_file import CONVERTER, LITERT
from mldr_deploy.export.litert_reading import read_litert
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.runtimes.litert import LiteRt
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.runtime import RunError

from .exchanged_files import rechecked, refuted, run_vision_mamba
from .litert_files import write_linear

pytest.importorskip("ai_edge_litert")
DYNAMIC = "student.int8-dynamic.tflite"
SHAPE = (1, 3, 4, 4)


@pytest.fixture
def weights() -> Any:
    return np.random.default_rng(0).normal(size=(5, 48)).astype(np.float32)


@pytest.mark.parametrize(("int8", "error"), [(False, 1e-5), (True, 0.3)])
def test_a_batch_is_run_image_by_image(
    tmp_path: Path, weights: Any, int8: bool, error: float
) -> None:
    path = write_linear(tmp_path / "a.tflite", weights, SHAPE, int8=int8)
    inputs = np.random.default_rng(1).normal(size=(3, *SHAPE[1:])).astype(np.float32)
    with LiteRt(ModelFile(path)) as runtime:
        first = runtime(inputs)
        runtime(-inputs)
        with pytest.raises(RunError, match=r"does not run on \[1, 3, 4, 2\]: it takes \[1, 3, 4"):
            runtime(inputs[:1, ..., :2])
    assert first == pytest.approx(inputs.reshape(3, 48) @ weights.T, abs=error)


@pytest.mark.parametrize("int8", [False, True])
def test_a_file_says_what_it_computes_in(tmp_path: Path, weights: Any, int8: bool) -> None:
    graph = read_litert(write_linear(tmp_path / "a.tflite", weights, SHAPE, int8=int8))
    assert graph.tally() == {"int8" if int8 else "fp32": 1}
    assert [str(port) for port in graph.inputs] == ["input float [?, 3, 4, 4]"]
    assert [str(port) for port in graph.outputs] == ["logits float [?, 5]"]


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 4, 4, 3)])
def test_what_takes_no_image_of_ours_is_refused(
    tmp_path: Path, weights: Any, shape: tuple[int, ...]
) -> None:
    path = write_linear(tmp_path / "a.tflite", weights, shape)
    with pytest.raises(
        RunError, match=r"where one image \[1, 3, H, W\] of floats is fed at a time"
    ):
        LiteRt(ModelFile(path)).load()


@pytest.mark.parametrize("length", [0, 6, 700])
def test_half_a_file_is_told_in_one_line(tmp_path: Path, weights: Any, length: int) -> None:
    path = write_linear(tmp_path / "half.tflite", weights, SHAPE)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(MldrError, match="is not a readable LiteRT file"):
        read_litert(path)
    with pytest.raises(RunError, match=r"half\.tflite does not load in LiteRT"):
        LiteRt(ModelFile(path)).load()


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("", "LiteRT's converter is not there: make it an environment of its own"),
        ("nowhere/python", f"{CONVERTER}=nowhere/python does not run"),
        (sys.executable, "LiteRT's converter is not in .*No module named 'litert_torch'"),
    ],
)
def test_without_its_converter_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, python: str, words: str
) -> None:
    monkeypatch.setenv(CONVERTER, python)
    with pytest.raises(Unavailable, match=words) as refusal:
        LITERT.content(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).eval(), 4, "fp32")
    assert "\n" not in str(refusal.value)


converts = pytest.mark.skipif(
    not os.environ.get(CONVERTER), reason=f"{CONVERTER} names no Python with litert-torch"
)


@pytest.fixture(scope="module")
def phones(run: Any, exported: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The healthy bundle with both files for phones added; not to be written to."""
    out = Path(shutil.copytree(exported.path, tmp_path_factory.mktemp("phones") / "bundle"))
    precisions = ("fp32", "int8-dynamic")
    config = ExportConfig(max_batch=32, targets=("litert",), precisions=precisions)
    return build_bundle(run.folder, out, config, dataset=run.dataset)


@pytest.mark.slow
@converts
def test_both_files_pass_and_say_what_they_prove(run: Any, phones: Bundle) -> None:
    files = {a.file: a for a in phones.manifest.artifacts if a.format == "litert"}
    assert list(files) == ["student.tflite", DYNAMIC]
    layers = [m for m in run.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert files["student.tflite"].computes == {"fp32": len(layers)}
    assert files[DYNAMIC].computes == {"int8": len(layers)}
    assert all(
        a.parity.samples == 359 and a.caveat and a.status == "passed" for a in files.values()
    )
    result = check_bundle(phones.path, dataset=run.dataset)
    assert result, str(result)
    words = [sys.executable, str(phones.path / "check_phone.py")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and ended.stdout.count("ok student") == 2, ended


@pytest.mark.slow
@converts
def test_seeded_faults_are_caught(run: Any, phones: Bundle, tmp_path: Path) -> None:
    def told(file: str, content: bytes) -> str:
        folder = Path(shutil.copytree(phones.path, tmp_path / "copy", dirs_exist_ok=True))
        (folder / file).write_bytes(content)
        return refuted(rechecked(folder, run))

    fp32 = (phones.path / "student.tflite").read_bytes()
    assert f"{DYNAMIC} graph: the artifact is called int8, but none" in told(DYNAMIC, fp32)
    torch.manual_seed(1)
    other = create_model(ModelConfig(name="test_resnet"), num_classes=10, image_size=32).eval()
    content = LITERT.content(other, 32, "fp32")
    assert "student.tflite parity: " in told("student.tflite", content)
    scratch, linear = tmp_path / "linear.tflite", np.ones((10, 3072), np.float32)
    for shape, words in (
        ((2, 3, 32, 32), "its batch is fixed at 2"),
        ((1, 32, 32, 3), "input float [?, 32, 32, 3]"),
        ((1, 3, 32, 32), "student.tflite parity: "),
    ):
        content = write_linear(scratch, linear, shape).read_bytes()
        assert words in told("student.tflite", content)


@pytest.mark.slow
@converts
def test_vision_mamba_needs_no_operator_of_ours(tmp_path: Path) -> None:
    logits, expected = run_vision_mamba(LITERT, tmp_path)
    assert logits == pytest.approx(expected, abs=1e-4)
