"""ONNX against PyTorch over architectures and batch sizes, and what is in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from mldr_deploy.errors import MldrError
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.onnx_export import export_onnx
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from mldr_deploy.runtimes.runtime import RuntimeOptions

CONFIG = ExportConfig(max_batch=32)
SMALL = [  # timm's tiny test models: one of each kind of block
    ModelConfig(name="test_resnet"),
    ModelConfig(name="test_convnext"),
    ModelConfig(name="test_mambaout"),
    ModelConfig(name="test_vit", patch_size=8),
    ModelConfig(
        name="beit_base_patch16_224",
        patch_size=8,
        options={"depth": 1, "embed_dim": 48, "num_heads": 3},
    ),
    ModelConfig(name="vim_nano_patch4_32", patch_size=8, options={"depth": 1, "embed_dim": 32}),
    ModelConfig(name="resmlp_12_224", patch_size=8, options={"num_blocks": 1, "embed_dim": 32}),
]
PUBLISHED = [
    ModelConfig(name="resnet18"),
    ModelConfig(name="mobilenetv2_050"),
    ModelConfig(name="test_efficientnet"),
    ModelConfig(name="deit_tiny_patch16_224", patch_size=8),
    ModelConfig(name="swin_tiny_patch4_window7_224", patch_size=2, options={"window_size": 4}),
    ModelConfig(name="twins_svt_small", options={"depths": [1, 1, 1, 1]}),
    ModelConfig(name="nest_tiny"),
    ModelConfig(name="mixer_s16_224", patch_size=8),
    ModelConfig(name="convnext_tiny"),
    ModelConfig(name="vim_nano_patch4_32"),
]


def student(config: ModelConfig) -> nn.Module:
    torch.manual_seed(0)
    model = create_model(config, num_classes=10, image_size=32).eval()
    for module in model.modules():  # fresh statistics would make BatchNorm the identity
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def largest_difference(model: nn.Module, path: Path, batch: int) -> float:
    inputs = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
    with (
        OnnxRuntimeCpu(ModelFile(path), RuntimeOptions(threads=1)) as runner,
        torch.inference_mode(),
    ):
        logits = runner(inputs.numpy())
        assert logits.shape == (batch, 10) and logits.dtype == np.float32
        return float(np.abs(model(inputs).numpy() - logits).max())


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config.name)
def test_logits_equal_pytorch_at_every_batch(config: ModelConfig, tmp_path: Path) -> None:
    model = student(config)
    export_onnx(model, 32, tmp_path / "m.onnx", CONFIG)
    for batch in (1, 2, 5, 32):
        assert largest_difference(model, tmp_path / "m.onnx", batch) < 2e-5


@pytest.mark.slow
def test_the_model_keeps_its_fused_attention(tmp_path: Path) -> None:
    model = student(ModelConfig(name="test_vit", patch_size=8))
    export_onnx(model, 32, tmp_path / "m.onnx", CONFIG)
    assert {m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")} == {True}


@pytest.mark.slow
@pytest.mark.parametrize("config", PUBLISHED, ids=lambda config: config.name)
def test_published_students(config: ModelConfig, tmp_path: Path) -> None:
    model = student(config)
    export_onnx(model, 32, tmp_path / "m.onnx", CONFIG)
    for batch in (1, 2, 32):
        assert largest_difference(model, tmp_path / "m.onnx", batch) < 1e-4


@pytest.mark.slow
def test_the_file_is_self_contained_deterministic_and_tells_nothing_of_the_machine(
    tmp_path: Path,
) -> None:
    model = student(SMALL[0])
    for name in ("a.onnx", "b.onnx"):
        export_onnx(model, 32, tmp_path / name, CONFIG)
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "b.onnx"}
    data = (tmp_path / "a.onnx").read_bytes()
    assert data == (tmp_path / "b.onnx").read_bytes()
    for trace in (b"site-packages", b".py", str(Path.home()).encode()):
        assert trace not in data
    proto = onnx.load_from_string(data)
    assert [(item.domain, item.version) for item in proto.opset_import] == [("", 20)]
    (given,), (result,) = proto.graph.input, proto.graph.output
    assert (given.name, result.name) == ("input", "logits")
    sizes = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, 32, 32]
    sizes = [d.dim_param or d.dim_value for d in result.type.tensor_type.shape.dim]
    assert sizes == ["batch", 10]


@pytest.mark.parametrize("opset", [18, pytest.param(21, marks=pytest.mark.slow)])
def test_another_opset(opset: int, tmp_path: Path) -> None:
    model = student(SMALL[0])
    export_onnx(model, 32, tmp_path / "m.onnx", ExportConfig(opset=opset))
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset
    assert largest_difference(model, tmp_path / "m.onnx", 3) < 2e-5


def test_a_graph_that_the_checker_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise onnx.checker.ValidationError("Nodes in a graph must be topologically sorted")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(
        MldrError, match=r"made of \w+ is no valid ONNX \(Nodes .*; choose"
    ) as caught:
        export_onnx(student(SMALL[0]), 32, tmp_path / "m.onnx", CONFIG)
    assert str(tmp_path) not in str(caught.value)


def test_a_model_that_does_not_export_is_named(tmp_path: Path) -> None:
    class Undecided(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))

    with pytest.raises(MldrError, match="export: Undecided cannot be written as ") as caught:
        export_onnx(Undecided(), 32, tmp_path / "m.onnx", CONFIG)
    told = str(caught.value)
    assert "data-dependent" in told and "\x1b" not in told  # the cause, in plain text
    assert "\n" not in told and told.endswith(
        "choose another student, or another export.opset (18 to 23)"
    )
    assert list(tmp_path.iterdir()) == []
