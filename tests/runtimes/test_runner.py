from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from mldr_deploy.export.measure_latency import milliseconds_per_image
from mldr_deploy.export.torch_reference import torch_reference
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from mldr_deploy.runtimes.runtime import RunError


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """input [batch, 3, 1, 1] -> its double, by hand."""
    shape = ["batch", 3, 1, 1]
    graph = helper.make_graph(
        [helper.make_node("Add", ["input", "input"], ["logits"])],
        "doubling",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_onnx(doubling: Path) -> None:
    inputs = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    with OnnxRuntimeCpu(ModelFile(doubling)) as runner:
        assert np.array_equal(runner(inputs), 2 * inputs)
        assert np.array_equal(runner(inputs[::-1]), 2 * inputs[::-1])  # not contiguous


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"hello")
    with (
        pytest.raises(RunError, match=r"m\.onnx does not load in ONNX Runtime"),
        OnnxRuntimeCpu(ModelFile(tmp_path / "m.onnx")),
    ):
        pass


def test_inputs_that_do_not_fit(doubling: Path) -> None:
    with (
        OnnxRuntimeCpu(ModelFile(doubling)) as runner,
        pytest.raises(
            RunError, match=r"m\.onnx does not run on a batch of 4: .*Got: 2 Expected: 3"
        ),
    ):
        runner(np.zeros((4, 2, 1, 1), np.float32))


def test_outside_of_with(doubling: Path) -> None:
    with pytest.raises(RuntimeError, match="with statement"):
        OnnxRuntimeCpu(ModelFile(doubling))(np.zeros((1, 3, 1, 1), np.float32))


def test_torch_runs_in_evaluation_mode_and_gives_the_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Flatten()).train()
    with torch_reference(model) as runner:
        assert np.array_equal(runner(np.ones((1, 3, 1, 1), np.float32)), np.ones((1, 3)))
    assert model.training


def test_torch_reference_is_fp32() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).half()
    with torch_reference(model) as runner:
        assert runner(np.ones((1, 3, 1, 1), np.float32)).dtype == np.float32
    assert model[1].weight.dtype == torch.float32


def test_latency_rotates_through_real_inputs() -> None:
    seen: set[float] = set()
    sizes: set[int] = set()

    def watching(inputs: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        seen.update(inputs[:, 0, 0, 0].tolist())
        sizes.add(len(inputs))
        return inputs

    images = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1)
    for batch in (1, 2, 8):
        sizes.clear()
        assert milliseconds_per_image(watching, images, batch, seconds=0) > 0
        assert sizes == {batch}
    assert seen == set(range(6))
