"""Faults injected into a real export: parity sees each, bisect names where it lies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from mldr_deploy.bundle.parity import ParityResult
from mldr_deploy.bundle.preprocess import preprocess
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.export.bisect import TorchValue, bisect, first_out_of_band, torch_values
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.gates import Gates
from mldr_deploy.export.onnx_export import export_onnx
from mldr_deploy.export.prove import prove
from mldr_deploy.export.torch_reference import torch_reference
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from mldr_deploy.runtimes.runtime import RunError, RuntimeOptions

CONFIG = ExportConfig(max_batch=32)
GATE = Gates().fp32


@pytest.fixture(scope="module")
def inputs(run: Any) -> Any:
    return preprocess(list(run.dataset.test.pixels[:4]), run.record.preprocessing)


@pytest.fixture(scope="module")
def expected(run: Any, inputs: Any) -> dict[str, TorchValue]:
    """What PyTorch gives at every node: traced once, it takes seconds."""
    return torch_values(run.model, inputs, CONFIG)


def parity(run: Any, artifact: Path) -> ParityResult:
    with (
        torch_reference(run.model) as reference,
        OnnxRuntimeCpu(ModelFile(artifact), RuntimeOptions(threads=1)) as runner,
    ):
        return prove(
            reference,
            runner,
            run.dataset.test,
            run.record.preprocessing,
            precision="fp32",
            gate=GATE,
            max_batch=32,
            progress=Silent(),
        )


def injured(bundle: Bundle, path: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """The healthy artifact with one initializer changed."""
    proto = onnx.load(bundle.file(bundle.artifact()))
    (weight,) = [tensor for tensor in proto.graph.initializer if tensor.name == name]
    value = change(numpy_helper.to_array(weight).copy())
    weight.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(proto, path)
    return path


def one_value(value: float) -> Callable[[Any], Any]:
    def change(weight: Any) -> Any:
        weight.flat[0] = value
        return weight

    return change


@pytest.mark.parametrize(
    ("weight", "change", "op_type", "module"),
    [
        ("conv1.0.weight", one_value(0.9), "Conv", "conv1.1"),
        ("layer2.0.conv2.weight", lambda w: 1.02 * w, "Conv", "layer2.0.bn2"),
        ("layer2.0.conv2.weight", lambda w: w[..., ::-1].copy(), "Conv", "layer2.0.bn2"),
        ("layer3.0.conv1.weight", one_value(np.nan), "Conv", "layer3.0.bn1"),
        ("layer4.0.downsample.1.weight", one_value(np.inf), "Conv", "layer4.0.downsample.2"),
        ("fc.weight", lambda w: w[::-1].copy(), "Gemm", "fc"),
        ("fc.bias", np.zeros_like, "Gemm", "fc"),
    ],
)
def test_one_wrong_weight(
    run: Any,
    exported: Bundle,
    inputs: Any,
    expected: dict[str, TorchValue],
    tmp_path: Path,
    weight: str,
    change: Callable[[Any], Any],
    op_type: str,
    module: str,
) -> None:
    artifact = injured(exported, tmp_path / "m.onnx", weight, change)
    result = parity(run, artifact)
    assert not result
    fault = first_out_of_band(artifact, expected, inputs, GATE)
    assert fault is not None
    assert (fault.op_type, fault.module) == (op_type, module)
    assert weight in fault.weights
    assert fault.module_type == type(run.model.get_submodule(module)).__name__


def test_a_healthy_artifact_has_no_fault(run: Any, exported: Bundle, inputs: Any) -> None:
    artifact = exported.file(exported.artifact())
    assert parity(run, artifact)
    assert bisect(run.model, artifact, inputs, CONFIG, GATE) is None


def test_batchnorm_left_in_train_mode(
    run: Any, inputs: Any, expected: dict[str, TorchValue], tmp_path: Path
) -> None:
    # The exporter itself writes BatchNorm in evaluation mode whatever the model's mode is, so the
    # fault is spelled out: statistics of the batch at hand in one layer.
    class Training(nn.Module):
        def __init__(self, norm: nn.BatchNorm2d) -> None:
            super().__init__()
            self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

        def forward(self, x: Tensor) -> Tensor:
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
            x = (x - mean) * torch.rsqrt(variance + self.eps)
            return x * self.weight[:, None, None] + self.bias[:, None, None]

    faulty: Any = copy.deepcopy(run.model)
    faulty.layer2[0].bn1 = Training(faulty.layer2[0].bn1)
    export_onnx(faulty, 32, tmp_path / "m.onnx", CONFIG)
    result = parity(run, tmp_path / "m.onnx")
    assert not result
    fault = first_out_of_band(tmp_path / "m.onnx", expected, inputs, GATE)
    assert fault is not None
    assert fault.module in ("layer2.0.bn1", "layer2.0.act1")


def test_a_fault_outside_of_the_graph_is_not_pinned_on_a_node(run: Any, exported: Bundle) -> None:
    artifact = exported.file(exported.artifact())
    other = run.record.preprocessing.model_copy(update={"channel_order": "bgr", "std": (1, 1, 1)})
    wrong = preprocess(list(run.dataset.test.pixels[:4]), other)
    with (
        OnnxRuntimeCpu(ModelFile(artifact), RuntimeOptions(threads=1)) as runner,
        torch_reference(run.model) as reference,
    ):
        right = preprocess(list(run.dataset.test.pixels[:4]), run.record.preprocessing)
        assert np.abs(runner(wrong) - reference(right)).max() > GATE.max_dlogit
    assert bisect(run.model, artifact, wrong, CONFIG, GATE) is None


def test_a_batch_that_was_specialised(
    run: Any, exported: Bundle, inputs: Any, expected: dict[str, TorchValue], tmp_path: Path
) -> None:
    proto = onnx.load(exported.file(exported.artifact()))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, tmp_path / "m.onnx")
    result = parity(run, tmp_path / "m.onnx")
    assert not result
    assert "does not run on a batch of 2" in result.failures[0]
    with pytest.raises(RunError, match="does not run"):
        first_out_of_band(tmp_path / "m.onnx", expected, inputs, GATE)


def test_recorded_values_are_the_modules_outputs(
    run: Any, inputs: Any, expected: dict[str, TorchValue]
) -> None:
    seen: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, output: seen.__setitem__(name, output.numpy().copy())

    names = ("layer1.0.bn1", "layer3.0.act2", "fc")
    hooks = [run.model.get_submodule(n).register_forward_hook(keep(n)) for n in names]
    with torch_reference(run.model) as reference:
        reference(inputs)
    for hook in hooks:
        hook.remove()
    for name in names:
        of_module = [value.value for value in expected.values() if value.module == name]
        assert any(
            value.shape == seen[name].shape and np.allclose(value, seen[name], atol=1e-5)
            for value in of_module
        )
